"""Small runs to compare and to read, and runs as files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from infra.exports.writing import Exported, save_export
from runtime.log import Stored
from schemas.commands import CallTool, PlanCall
from schemas.envelope import Fact, encode
from schemas.events import ToolInDoubt
from tests.support.builders import CLOCK, RENEW, RunUnderTest, call, failure, planned, ready, spec


def asked(text: str = "It is noon.", *, key: str = "key", zone: str = "north", instructions: str = "Be short.") -> RunUnderTest:
    """A run that looks once and answers."""
    run = RunUnderTest(spec(instructions=instructions, knowledge_k=0), key=key)
    run.begin()
    run.gather(CLOCK)
    run.say(call("clock", zone=zone))
    run.returns(run.one(CallTool), "noon")
    run.say(text=text)
    run.end()
    return run


def renewed(months: int, text: str = "renewed until May", *, doubt: bool = False) -> RunUnderTest:
    run = ready(spec(approval="never"), RENEW)
    run.say(call("renew", months=months))
    run.plans(planned(run.one(PlanCall), price="20", currency="CNY"))
    command = run.one(CallTool)
    if doubt:
        run.answer(ToolInDoubt(command=command, failure=failure("No answer came.")))
    else:
        run.returns(command, text)
    return run


def looked() -> RunUnderTest:
    """A run that looks once and answers; each of its facts names what caused it."""
    run = RunUnderTest(spec(knowledge_k=0))
    run.begin()
    run.gather(CLOCK)
    run.later(0.25)
    run.say(call("clock", zone="north"))
    run.later(90)
    run.returns(run.one(CallTool), "noon")
    run.say(text="It is noon.")
    run.end()
    by_command = {decision.id: decision.cause for decision in run.decided}
    for index, stored in enumerate(run.log):
        cause = by_command.get(stored.fact.slot, run.log[index - 1].fact.id if index else "")  # type: ignore[call-overload]
        run.log[index] = Stored(named(stored.fact, cause), stored.position)
    return run


def named(fact: Fact, *causes: str) -> Fact:
    return replace(fact, header=fact.header.model_copy(update={"causes": " ".join(causes)}))


def saved(run: RunUnderTest, path: Path) -> str:
    save_export(path, Exported(run.id, [encode(stored.fact) for stored in run.log]), datetime.now(UTC))
    return str(path)
