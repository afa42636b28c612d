"""What a person sees of shadows: figures with their intervals, what was passed over, and the riskiest differences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infra.cli.show import as_json, console, local, plain, print_json, print_table
from infra.cli.words import language, say

if TYPE_CHECKING:
    from infra.cohort.driving import Result
    from infra.cohort.summary import Summary
    from infra.shadow.shadow import Told

_OURS = {
    "cohort title": "shadow title", "cohort agreement": "shadow agreement", "cohort driven": "shadow candidate",
    "cohort seconds": "shadow seconds", "cohort changed": "shadow changed", "cohort same": "shadow same",
    "cohort more": "shadow more", "cohort troubled": "shadow failed", "cohort risks": "shadow risks",
    "cohort a run": "shadow an answer",
}  # fmt: skip


def said(key: str, /, **values: object) -> str:
    """The words of cohorts, where a shadow has none of its own: answers are compared here, not runs."""
    return say(_OURS.get(key, key), **values)


def print_list(found: Sequence[tuple[Told, int | None]]) -> None:
    """Shadows, a line each."""
    if as_json():
        from infra.shadow.summary import described

        print_json([
            {**described(told.shadow), "counts": told.counts, "last": told.last, "behind": behind} for told, behind in found
        ])  # fmt: skip
        return
    if not found:
        console(stderr=True).print(plain(say("shadow none"), "dim"))
        return
    rows = []
    for told, behind in found:
        shadow = told.shadow
        compared = sum(count for risk, count in told.counts.items() if risk not in ("skipped", "failed"))
        differ = compared - told.counts.get("same", 0)
        rows.append((
            shadow.name, say(f"shadow {shadow.state}"), shadow.said, f"{shadow.share:.0%}", f"{compared:,}", f"{differ:,}",
            "–" if behind is None else f"{behind:,}", local(told.last) if told.last else "–",
        ))  # fmt: skip
    columns = ("name", "state", "candidate", "share", "compared", "differ", "behind", "last")
    heads = tuple(say(f"shadow column {each}") for each in columns)
    print_table(heads, rows, right=heads[3:7])
    for told, _ in found:
        if told.shadow.trouble and told.shadow.state == "running":
            console().print(plain(f"{told.shadow.name}: {told.shadow.trouble}", "yellow"))


def print_one(told: Told, behind: int | None, made: Summary, shown: Sequence[Result], passed: dict[str, int]) -> None:
    """One shadow in full."""
    from infra.cohort.report import spending, table

    shadow, out = told.shadow, console()
    out.print(plain(say("shadow head", name=shadow.name, of=shadow.said, state=say(f"shadow {shadow.state}")), "bold"))
    since, late = local(shadow.since), "–" if behind is None else behind
    out.print(plain(say("shadow seen", share=f"{shadow.share:.0%}", since=since, behind=late), "dim"))
    if shadow.trouble and shadow.state == "running":
        out.print(plain(shadow.trouble, "yellow"))
    print_table(("", "95 %"), table(made, said))
    print_table(("", said("cohort recorded"), said("cohort driven")), spending(made.totals, said),
                right=(said("cohort recorded"), said("cohort driven")))  # fmt: skip
    for why, count in passed.items():
        out.print(plain(say("shadow passed", count=count, why=why), "dim"))
    if made.compared:
        _print_differences(made, shown)


def _print_differences(made: Summary, shown: Sequence[Result]) -> None:
    out, changed = console(), made.changed
    out.print(plain(said("cohort changed", count=len(changed)), "bold") if changed else plain(said("cohort same"), "green"))
    for each in shown:
        _print_difference(each)
    if len(changed) > len(shown):
        out.print(plain(said("cohort more", count=len(changed) - len(shown)), "dim"))


def _print_difference(result: Result) -> None:
    from infra.cohort.report import RISKY, fate, line
    from runtime.timeline import short

    out, found = console(), result.agreement
    if found is None:
        return
    risk = plain(say(f"cohort risk {found.risk}"), "bold red" if found.risk in RISKY else "yellow")
    out.print(risk + plain(f"  {result.run}  ") + plain(result.agent, "dim"))
    for pair in found.differences[:3]:
        for sign, action in (("-", pair.recorded), ("+", pair.driven)):
            if action:
                out.print(plain(f"  {sign} {short(line(action), 160)}") + plain(f"  {fate(action, say)}", "dim"))
    if found.answers.recorded != found.answers.driven:
        for sign, answer in (("-", found.answers.recorded), ("+", found.answers.driven)):
            out.print(plain(f"  {sign} {short(answer or '–', 160)}"))
    if result.sealed is not None:
        out.print(plain("  " + say("cohort sealed"), "dim"))


def write_html(html: Path, made: Summary, shown: Sequence[Result]) -> None:
    """The report as one file. Raises MilepostError."""
    from infra.cohort.report import report
    from schemas.errors import MilepostError

    try:
        html.write_text(report(made, shown, said, language()), encoding="utf-8")
    except OSError as error:
        why = error.strerror or str(error)
        raise MilepostError(f"{html} cannot be written.", why=why, hint="--html FILE in a folder that is there") from error
