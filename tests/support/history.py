"""A run that remembers something of everything."""

from __future__ import annotations

from schemas.agent import AgentSpec
from schemas.commands import RecallMemory
from schemas.events import MemoryRecalled, Summary, Turn, TurnResult, UserFact
from tests.support.builders import NOW, RunUnderTest

PICTURE = TurnResult(tool="draw", text="a cat", kind="image", ref="blob:cat-1", media_type="image/png")
TOLD = MemoryRecalled(
    command=RecallMemory(conversation="talk", user="ann", when_busy="queue", deadline=NOW, history_tokens=800),
    history=(Turn(run="r1", task="Draw a cat.", answer="Here it is.", results=(PICTURE,)),),
    similar=(Turn(run="r0", task="What is a price?", answer="What you pay."),),
    summary=Summary(text="Ann asked for prices. They were found.", upto="r0", by="r1"),
    facts=(UserFact(key="name", text="Ann", source="r0"), UserFact(key="city", text="Hangzhou", source="r0")),
)


def remembered(agent: AgentSpec) -> RunUnderTest:
    """Its first generation is open."""
    run = RunUnderTest(agent)
    run.begin()
    run.gather(told=TOLD)
    return run
