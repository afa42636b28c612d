"""Answers on their way to chats: a run that a chat waits for is followed to its end, by one gateway at a time.

What is owed stands in the store, so another gateway goes on where one died; an answer is given at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

import structlog

from runtime.client import Client, answer_of
from runtime.errors import Retryable
from runtime.sealing import Erased
from runtime.state import RunState
from schemas import subjects
from schemas.errors import MilepostError
from schemas.ids import checked_run
from services.gateway.channels import words
from services.gateway.channels.channel import Card, KeptChannel
from services.gateway.channels.dingtalk import LONGEST
from services.gateway.channels.store import Owed
from services.gateway.channels.talk import MESSENGERS, secret
from services.gateway.gateway import Gateway
from services.gateway.principal import Principal

log = structlog.get_logger("services.gateway.channels")

LOOK_S = 1.0
LEASE_S = 30.0
AT_ONCE = 100
_TRIES = 3
_REFRESH_S = 5.0


class Answering:
    """Works while `run` runs."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._tasks: dict[asyncio.Task[None], Owed] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        held = asyncio.get_running_loop().time()
        try:
            while True:
                try:
                    now = asyncio.get_running_loop().time()
                    if self._tasks and now - held > LEASE_S / 3:
                        await self._gateway.channels.hold(list(self._tasks.values()), self._gateway.clock.now(), LEASE_S)
                        held = now
                    await self._take()
                except Retryable as error:
                    log.warning("channels wait", why=str(error))
                await asyncio.sleep(LOOK_S)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self) -> None:
        room = AT_ONCE - len(self._tasks)
        if room <= 0:
            return
        for owed in await self._gateway.channels.take(self._gateway.clock.now(), LEASE_S, room):
            if owed in self._tasks.values():
                continue
            task = asyncio.create_task(self._see_to(owed))
            self._tasks[task] = owed
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _see_to(self, owed: Owed) -> None:
        try:
            kept = await self._gateway.channels.get(owed.tenant, owed.channel)
            if kept is not None:
                await self._follow(kept, owed)
            await self._gateway.channels.settle(owed)
        except Retryable as error:
            log.warning("an answer waits", channel=owed.channel, run=owed.run, why=str(error))
        except MilepostError as error:
            log.warning("an answer was not given", channel=owed.channel, run=owed.run, why=str(error))
            await self._gateway.channels.settle(owed)

    async def _follow(self, kept: KeptChannel, owed: Owed) -> None:
        """Show what the run asks, and say how it ends. Raises Unreachable, NotSaid."""
        run, told = checked_run(owed.run), set(owed.told)
        client = self._gateway.client(Principal(owed.tenant, owed.user, (), "channel"))
        link = f"{self._gateway.rules.public_url}/runs/{run}"
        with suppress(Erased):
            async with aclosing(client.follow(run)) as updates:  # type: ignore[type-var]  # a generator
                async for update in updates:
                    if update.state.phase == "ended":
                        await self._say(kept, owed, ending(kept, update.state, link))
                        return
                    if told >= update.state.approvals().keys() | update.state.questions().keys():
                        continue
                    await self._show(kept, owed, client, told, link)

    async def _show(self, kept: KeptChannel, owed: Owed, client: Client, told: set[str], link: str) -> None:
        """Show what waits now, each once."""
        state, channel = await client.state(checked_run(owed.run)), kept.channel
        cards: dict[str, Card] = {}
        for id, asked in state.approvals().items():
            plan = state.plan_of(asked)
            cards[id] = words.approval(channel, id, asked, plan.planned.preview if plan else None, link)
        for id, question in state.questions().items():
            cards[id] = words.question(channel, question, link)
        for each in cards.keys() - told:
            told.add(each)
            if await self._gateway.channels.told(owed, each):
                await self._say(kept, owed, cards[each])

    async def _say(self, kept: KeptChannel, owed: Owed, card: Card) -> None:
        await again(lambda: MESSENGERS[kept.channel.kind].say(owed.target, card, self._gateway.outside))


async def again(work: Callable[[], Awaitable[None]]) -> None:
    """Try a few times. Raises what it raised last."""
    for number in range(_TRIES):
        try:
            return await work()
        except Retryable:
            if number == _TRIES - 1:
                raise
            await asyncio.sleep(0.5 * 4**number)


def ending(kept: KeptChannel, state: RunState, link: str) -> Card:
    """How a run ended, in words."""
    try:
        return words.answer(kept.channel, answer_of(state), link, LONGEST)
    except MilepostError as error:
        return words.trouble(kept.channel, error, link)


class Notices:
    """Tells a group's own robot that a run of the tenant waits for approval; works while `run` runs."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._ears: dict[tuple[str, str], tuple[KeptChannel, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                with suppress(Retryable):
                    await self._look()
                await asyncio.sleep(_REFRESH_S)
        finally:
            for _, ear in self._ears.values():
                ear.cancel()
            await asyncio.gather(*(ear for _, ear in self._ears.values()), return_exceptions=True)

    async def _look(self) -> None:
        every = await self._gateway.channels.every()
        wanted = {
            (each.tenant, each.channel.name): each for each in every if each.channel.enabled and each.channel.notify_token_env
        }
        for place, (kept, ear) in list(self._ears.items()):
            if ear.done() or wanted.get(place) != kept:
                ear.cancel()
                del self._ears[place]
        for place, kept in wanted.items():
            if place not in self._ears:
                self._ears[place] = kept, asyncio.create_task(self._hear(kept))

    async def _hear(self, kept: KeptChannel) -> None:
        waiting: asyncio.Queue[str] = asyncio.Queue(1000)

        async def heard(subject: str, data: bytes) -> None:
            with suppress(asyncio.QueueFull):
                waiting.put_nowait(subject)

        async with self._gateway.bus.hear(subjects.asks(kept.tenant), heard):
            while True:
                subject = await waiting.get()
                try:
                    await self._tell(kept, *subject.split(".")[-2:])
                except (MilepostError, ValueError) as error:
                    log.warning("a notice was not given", channel=kept.channel.name, why=str(error))

    async def _tell(self, kept: KeptChannel, run: str, command: str) -> None:
        """One of the gateways tells it, once."""
        gateway, channel = self._gateway, kept.channel
        state = await gateway.client(Principal(kept.tenant, "notices", (), "channel")).state(checked_run(run))
        asked = next((each for id, each in state.approvals().items() if id == command), None)
        if asked is None or not await gateway.channels.see(kept.tenant, channel.name, f"ask {command}", gateway.clock.now()):
            return
        plan = state.plan_of(asked)
        card = words.approval(
            channel,
            command,
            asked,
            plan.planned.preview if plan else None,
            f"{gateway.rules.public_url}/runs/{run}",
            here=False,
        )
        token = secret(gateway, kept.tenant, channel.notify_token_env)
        own = secret(gateway, kept.tenant, channel.notify_secret_env)
        await again(lambda: MESSENGERS[channel.kind].notify(token, own, card, gateway.clock.now(), gateway.outside))
