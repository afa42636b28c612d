"""A process that drives recorded runs again with an agent in place of theirs: asked on its input, it tells on its output.

It is one of its own so that the models it brings are gone with it: `python -m infra.gateway.evaluating`.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

import orjson

from infra import logs
from infra.cohort.driver import Source, drive_here
from infra.cohort.driving import Result, opened
from infra.cohort.recorded import recorded_in
from infra.cohort.report import line
from infra.cohort.store import About, cohort_id, open_cohort
from infra.cohort.summary import Summary, place, summary_of
from infra.cohort.swap import Swap
from infra.session import session
from infra.settings import load
from infra.wiring import World
from runtime.errors import Unreachable
from runtime.sealing import UnknownKey, run_key
from runtime.timeline import short
from schemas.agent import AgentSpec
from schemas.errors import MilepostError
from schemas.ids import RunId, checked_run
from schemas.tools import Value
from services.gateway.agents.evaluations import ChangedRun, Figures

SHOWN = 50
_LONG = 400


class Wanted(Value):
    """What the parent asks for on standard input, as JSON."""

    tenant: str
    spec: AgentSpec
    runs: tuple[str, ...]
    label: str


class Told(Value):
    """What it says on standard output, a line each: how far it is, and at the end what it came to."""

    done: int = 0
    figures: Figures | None = None
    changed: tuple[ChangedRun, ...] = ()
    troubled: tuple[str, ...] = ()
    trouble: str = ""


def tell(told: Told) -> None:
    """Say one line."""
    sys.stdout.buffer.write(orjson.dumps(told.model_dump(mode="json")) + b"\n")
    sys.stdout.buffer.flush()


async def evaluate(wanted: Wanted) -> Told:
    """Drive the runs. Raises MilepostError."""
    settings = load().settings.model_copy(update={"tenant": wanted.tenant})
    swap = Swap(agent=wanted.spec, said=(f"agent={wanted.label}",))
    runs = tuple(checked_run(run) for run in wanted.runs)
    async with session(settings) as (_, world):
        source = Source(wanted.label, runs, lambda run: recorded_in(world, run))
        about = About(
            id=cohort_id(runs, swap), query=source.query, swap=swap.said, runs=runs, created=datetime.now(UTC)
        )  # fmt: skip
        with open_cohort(settings.home, about) as cohort:
            await drive_here(cohort, source, swap, settings, tell=lambda done: tell(Told(done=done)), processes=1)
            summary = summary_of(about, list(cohort.results.values()))
        changed = [_changed(await _opened(each, world)) for each in summary.changed[:SHOWN]]
    troubled = tuple(f"{each.run}: {each.trouble}" for each in summary.troubled[:SHOWN])
    return Told(done=len(runs), figures=_figures(summary), changed=tuple(changed), troubled=troubled)


async def _opened(result: Result, world: World) -> Result:
    """With what it quotes, where its user has a key left."""
    if result.sealed is None or result.datakey is None:
        return result
    try:
        secret = (await world.keyring.key(result.tenant, result.datakey)).secret
    except (UnknownKey, Unreachable):
        return result
    return opened(result, run_key(secret, RunId(result.run)) if secret else None)


def _changed(result: Result) -> ChangedRun:
    found = result.agreement
    if found is None:
        return ChangedRun(run=result.run, risk="unknown")
    pairs = found.differences[:3]
    recorded = [line(each.recorded) for each in pairs] or [found.answers.recorded or ""]
    driven = [line(each.driven) for each in pairs] or [found.answers.driven or ""]
    return ChangedRun(
        run=result.run, risk=found.risk, task=result.task, at=place(result),
        recorded=tuple(short(each, _LONG) for each in recorded), driven=tuple(short(each, _LONG) for each in driven),
    )  # fmt: skip


def _figures(summary: Summary) -> Figures:
    totals = summary.totals
    return Figures(
        runs=totals.runs, changed=totals.changed, agreement=totals.agreement.value, low=totals.agreement.low,
        high=totals.agreement.high, actions=totals.actions.value, arguments=totals.arguments, answers=totals.answers.value,
        risks={name: count for name, count in totals.risks.items() if count},
        tokens=(totals.recorded.tokens, totals.driven.tokens),
    )  # fmt: skip


def main() -> None:
    """Read the question, answer it."""
    logs.configure("client", level="error")
    wanted = Wanted.model_validate_json(sys.stdin.buffer.read())
    try:
        tell(asyncio.run(evaluate(wanted)))
    except MilepostError as error:
        tell(Told(trouble=" ".join(filter(None, (error.what, error.why)))))


if __name__ == "__main__":
    main()
