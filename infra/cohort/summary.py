"""What a cohort came to: figures, the runs that changed, the riskiest first, and whether that is good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.cohort.driving import Result
from infra.cohort.store import About
from runtime.permalink import permalink
from schemas.errors import MilepostError
from services.evaluation.agreement import RISKS, Agreement
from services.evaluation.totals import Totals, totals_of

GATES = ("agreement", "actions", "calls", "arguments", "answers", "verdicts")


class BadGate(MilepostError):
    """A limit for CI that is none."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A cohort's figures. changed: runs that differ in anything, riskiest first; erased: runs whose user was forgotten;
    troubled: runs that could not be driven; missing: runs that have not been driven yet."""

    about: About
    totals: Totals
    changed: tuple[Result, ...]
    compared: tuple[Agreement, ...]
    erased: tuple[str, ...]
    troubled: tuple[Result, ...]
    missing: int


def summary_of(about: About, results: Sequence[Result]) -> Summary:
    """Add up results, each of another run."""
    compared = [(each, each.agreement) for each in results if each.agreement is not None]
    different = [(each, found) for each, found in compared if found.risk != "same"]
    different.sort(key=lambda pair: (RISKS.index(pair[1].risk), -len(pair[1].differences), pair[0].run))
    return Summary(
        about, totals_of(found for _, found in compared), tuple(each for each, _ in different),
        tuple(found for _, found in compared), tuple(each.run for each in results if each.erased),
        tuple(each for each in results if each.trouble), len(about.runs) - len(results),
    )  # fmt: skip


def gates_of(text: str) -> dict[str, float]:
    """Least values from `agreement=0.95,answers=80%`. Raises BadGate."""
    found: dict[str, float] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, value = part.partition("=")
        try:
            least = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
        except ValueError:
            least = -1.0
        if name not in GATES or not 0 <= least <= 1:
            raise BadGate(f"{part!r} is no limit.", hint=f"one of {', '.join(GATES)}, from 0 to 1: agreement=0.95,answers=80%")
        found[name] = least
    if not found:
        raise BadGate("--fail-under says nothing.", hint="--fail-under agreement=0.95")
    return found


def below(summary: Summary, gates: Mapping[str, float]) -> list[str]:
    """What is not good enough, in words: figures under their limit, runs that could not be driven, nothing to compare."""
    found = [
        f"{name} {value:.4f} < {gates[name]:g}" for name, value in figures(summary.totals).items()
        if name in gates and value is not None and value < gates[name]
    ]  # fmt: skip
    if summary.troubled or summary.missing:
        found.append(f"{len(summary.troubled) + summary.missing} runs were not driven")
    if not summary.compared:
        found.append("no run was compared")
    return found


def figures(totals: Totals) -> dict[str, float | None]:
    """The figures that may have limits, by name."""
    return {
        "agreement": totals.agreement.value, "actions": totals.actions.value, "calls": totals.calls.value,
        "arguments": totals.arguments, "answers": totals.answers.value, "verdicts": totals.verdicts.value,
    }  # fmt: skip


def place(result: Result) -> str:
    """Where a run first differs, as a permalink; the run itself where no action does, or where one event of it is meant."""
    if "#" in result.run:
        return result.run
    found = result.agreement.differences if result.agreement else ()
    actions = [each.recorded or each.driven for each in found]
    return permalink(result.run, actions[0].event) if actions and actions[0] else result.run


def as_data(summary: Summary, shown: Sequence[Result]) -> dict[str, object]:
    """A cohort as JSON; of the runs that changed, those that are shown are told in full."""
    return {
        "cohort": summary.about.id, "query": summary.about.query, "swap": list(summary.about.swap),
        "runs": len(summary.about.runs), "missing": summary.missing, "erased": list(summary.erased),
        "troubled": [{"run": each.run, "why": each.trouble} for each in summary.troubled],
        "totals": summary.totals.model_dump(mode="json"), "changed_runs": len(summary.changed),
        "changed": [_changed(each) for each in shown],
    }  # fmt: skip


def _changed(result: Result) -> dict[str, object]:
    told = result.agreement.model_dump(mode="json") if result.agreement else {}
    return {
        "run": result.run, "at": place(result), "agent": result.agent, "started": result.started, "task": result.task,
        "sealed": result.sealed is not None, **told,
    }  # fmt: skip
