"""What the recorder takes from a run's facts about the things it used."""

from __future__ import annotations

from schemas.commands import CallTool, PlanCall
from schemas.tools import ToolCall
from services.recorder.uses import uses_of
from tests.support.builders import CLOCK, RENEW, passage, ready, spec


def test_every_thing_that_a_run_used_is_named_once_with_its_version() -> None:
    found = passage().model_copy(update={"source": "/docs/guide.md", "version": 3, "hash": "c1", "document": "d1"})
    run = ready(spec(knowledge_k=3), CLOCK, RENEW, passages=(found, found.model_copy(update={"hash": "c2"})))
    run.say(ToolCall(id="one", name="clock"))
    run.returns(run.one(CallTool))
    run.say(ToolCall(id="two", name="renew"))
    run.denies(run.one(PlanCall))
    run.say(text="done")
    uses = [use for stored in run.log for use in uses_of(stored.fact)]
    assert {(use.kind, use.id, use.how, use.hash) for use in uses} == {
        ("chunk", "c1", "retrieved", "c1"), ("chunk", "c2", "retrieved", "c2"), ("document", "d1", "retrieved", ""),
        ("tool", "clock", "offered", CLOCK.hash()), ("tool", "renew", "offered", RENEW.hash()),
        ("tool", "clock", "called", CLOCK.hash()), ("tool", "renew", "failed", RENEW.hash()),
    }  # fmt: skip
    assert {(use.run, use.tenant) for use in uses} == {(run.id, run.tenant)}
    assert {(use.name, use.detail) for use in uses if use.kind == "document"} == {("/docs/guide.md", "version 3")}
