"""A run as the terminal follows it: what is said never comes before what it was said about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from infra.cli.turn import Turn
from infra.cli.view import View
from runtime.client import Client, Update
from runtime.log import Stored
from runtime.memory_broker import MemoryBroker
from runtime.speech import Delta, write_delta
from runtime.state import Plan, RunState
from schemas import subjects
from schemas.commands import Generate, RequestApproval
from schemas.ids import CommandId
from schemas.messages import Sampling
from tests.support.builders import run_of

COMMAND = CommandId("c" * 32)
GENERATE = Generate(model="m", after=None, inputs=(), prompt_hash="", sampling=Sampling())


@dataclass
class Shown:
    """A view that writes down the order of things."""

    seen: list[str] = field(default_factory=list)

    def fact(self, update: Update) -> None:
        self.seen.append("fact")

    def delta(self, delta: Delta) -> None:
        self.seen.append(delta.text)

    def card(self, request: RequestApproval, plan: Plan | None) -> None: ...

    def note(self, text: str) -> None: ...

    def end(self, state: RunState, facts: list[Stored], below: Sequence[RunState] = ()) -> None: ...


class SlowFacts:
    """A client whose facts come only after text has come."""

    tenant = "acme"

    def __init__(self) -> None:
        self.bus, self.run, self.told = MemoryBroker(), run_of(), asyncio.Event()

    async def follow(self, run: str) -> AsyncIterator[Update]:
        said = subjects.delta("acme", self.run, COMMAND)
        heard = asyncio.Event()

        async def count(subject: str, data: bytes) -> None:
            heard.set()

        async with self.bus.hear(said, count):
            await self.bus.tell(said, write_delta(Delta(COMMAND, 1, 0, "It is noon.")))
            await asyncio.wait_for(heard.wait(), 5)
        yield Update(cast("Stored", None), RunState(run=self.run, outstanding={COMMAND: GENERATE}))
        yield Update(cast("Stored", None), RunState(run=self.run))


async def test_text_that_overtakes_the_fact_that_asked_for_it_waits_for_that_fact() -> None:
    client, shown = SlowFacts(), Shown()

    await Turn(cast("Client", client), client.run, cast("View", shown), "leave").go()

    assert shown.seen == ["fact", "It is noon.", "fact"]
