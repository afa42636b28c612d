"""The people of the drill: each wants one thing after another of the cloud, approves it, and remembers what was wanted.

A person asks, retries until the request is acknowledged, and waits for the end before the next wish; so what the cloud
should have done to an instance is a list, in order.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from runtime.client import Client
from schemas.ids import CommandId, RunId
from tests.support.stack import OPERATOR, persist, see_through

RENEWED = (
    "i-bp1f8k2m9x4q7web01", "i-bp1f8k2m9x4q7web02", "i-bp1c3n6v8z2w5api01", "i-bp1h5t9r4y7u1dbm01", "i-2ze4k7m1p9q3x6web1",
)  # fmt: skip
DESCRIBED = ("i-bp1c3n6v8z2w5api02", "i-bp1j2s8d6f3g9job01", "i-bp1e6w4q8a2n5old01")
RUN_LIMIT_S = 180.0

Effect = tuple[str, str]  # action, and the parameter that tells it apart


@dataclass(slots=True)
class Diary:
    """What was acknowledged and what should have come of it. effects: by instance, in order; excused: runs whose people
    were told that something was not known or not done, and saw what became of it."""

    runs: list[RunId] = field(default_factory=list)
    effects: dict[str, list[Effect]] = field(default_factory=dict)
    retries: int = 0
    seconds: list[float] = field(default_factory=list)
    stuck: list[tuple[RunId, str]] = field(default_factory=list)
    excused: set[RunId] = field(default_factory=set)

    def wanted(self, instance: str, effect: Effect) -> None:
        self.effects.setdefault(instance, []).append(effect)


class Person:
    """One person with wishes about one instance (or none: then they only ask). stopping: the current wish is the last."""

    def __init__(self, client: Client, diary: Diary, draw: random.Random, stopping: asyncio.Event) -> None:
        self._client, self._diary, self._draw, self._stopping = client, diary, draw, stopping
        self.agent = OPERATOR

    async def renew(self, instance: str) -> None:
        """One renewal after another: plain, asked for twice by the model, retried by the client, wished by two at once."""
        ways = (self._plainly, self._plainly, self._with_retries, self._by_two)
        while not self._stopping.is_set():
            weeks = self._draw.choice((1, 1, 2))
            self._diary.wanted(instance, ("RenewInstance", f"{weeks} Week"))
            word = self._draw.choice(("renew", "renew", "twice renew"))
            await self._draw.choice(ways)(f"{word} {instance} for {weeks} week")

    async def describe(self, instance: str) -> None:
        """One description after another, each new: a write whose provider knows no idempotency key."""
        while not self._stopping.is_set():
            text = f"d-{self._draw.getrandbits(48):012x}"
            self._diary.wanted(instance, ("ModifyInstanceAttribute", text))
            await self._draw.choice((self._plainly, self._with_retries))(f"describe {instance} as {text}")

    async def read(self) -> None:
        """Questions that change nothing."""
        while not self._stopping.is_set():
            await self._plainly(self._draw.choice(("what time is it", "list the instances", "hello")))

    async def _plainly(self, task: str) -> None:
        await self._through(await self._ask(task, secrets.token_hex(8)))

    async def _with_retries(self, task: str) -> None:
        """The same request three times at once and once more at the end, as an impatient HTTP client sends it."""
        key = secrets.token_hex(8)
        runs = await asyncio.gather(*(self._ask(task, key) for _ in range(3)))
        await self._through(runs[0])
        again = await self._ask(task, key)
        self._diary.retries += 3
        if len({*runs, again}) != 1:
            self._diary.stuck.append((again, f"one key led to several runs: {runs}, {again}"))

    async def _by_two(self, task: str) -> None:
        """Two runs with the same wish, both planned on the same state before either is approved: one effect."""
        runs = [await self._ask(task, secrets.token_hex(8)) for _ in range(2)]
        both = asyncio.Barrier(2)

        def together() -> Callable[[RunId, CommandId], Awaitable[None]]:
            met = False

            async def decide(run: RunId, approval: CommandId) -> None:
                nonlocal met
                if not met:
                    await both.wait()
                    met = True
                await self._client.approve(run, approval)

            return decide

        await asyncio.gather(*(self._through(run, together()) for run in runs))

    async def _ask(self, task: str, key: str) -> RunId:
        asked = await persist(lambda: self._client.ask(task, agent=self.agent, key=key))
        if asked.run not in self._diary.runs:
            self._diary.runs.append(asked.run)
        return asked.run

    async def _through(self, run: RunId, decide: Callable[[RunId, CommandId], Awaitable[None]] | None = None) -> None:
        began = time.monotonic()
        try:
            await see_through(self._client, run, decide, RUN_LIMIT_S)
            self._diary.seconds.append(time.monotonic() - began)
        except TimeoutError:
            self._diary.stuck.append((run, f"has not ended within {RUN_LIMIT_S:.0f} s"))
