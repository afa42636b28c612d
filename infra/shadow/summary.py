"""What a shadow came to, added up as a cohort is: each answer that was compared counts as a run does there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from infra.cohort.driving import Result
from infra.cohort.store import About
from infra.cohort.summary import Summary, summary_of
from infra.shadow.shadow import Compared, Shadow
from runtime.permalink import permalink


def summary(shadow: Shadow, found: Sequence[Compared]) -> Summary:
    """Add up what was compared, and what failed; what was skipped was never asked."""
    results = [placed(each) for each in found if each.risk != "skipped"]
    about = About(
        id=shadow.name, query=shadow.said, swap=(shadow.said,), runs=tuple(each.run for each in results), created=shadow.created
    )
    return summary_of(about, results)


def placed(compared: Compared) -> Result:
    """A result under the name of its event; what could not be compared is trouble."""
    trouble = (compared.why or "failed") if compared.risk == "failed" else ""
    return compared.result.model_copy(update={"run": permalink(compared.run, compared.event), "trouble": trouble})


def skipped(found: Sequence[Compared]) -> dict[str, int]:
    """How many answers were passed over, by why."""
    return dict(Counter(each.why for each in found if each.risk == "skipped").most_common())


def as_data(shadow: Shadow, made: Summary, shown: Sequence[Result], passed: dict[str, int]) -> dict[str, object]:
    """A shadow as JSON; of the differences, those that are shown are told in full."""
    return {
        **described(shadow), "compared": len(made.compared), "skipped": passed,
        "failed": [{"at": each.run, "why": each.trouble} for each in made.troubled],
        "totals": made.totals.model_dump(mode="json"), "differences": len(made.changed),
        "shown": [_difference(each) for each in shown],
    }  # fmt: skip


def described(shadow: Shadow) -> dict[str, object]:
    """What a shadow is, without the content of its candidate."""
    return {**shadow.model_dump(mode="json", exclude={"candidate"}), "kind": shadow.candidate.kind}


def _difference(result: Result) -> dict[str, object]:
    told = result.agreement.model_dump(mode="json") if result.agreement else {}
    return {"at": result.run, "agent": result.agent, "when": result.started, "sealed": result.sealed is not None, **told}
