"""The work of a shadow: it reads the log beside everybody, asks its candidate what each run asked, and tells what differed.

Live runs never wait for it: it has a reading of the log of its own, and a slow candidate only falls behind. An answer is
acknowledged once what came of it is kept; killed, it goes on there, and what was kept already is not kept twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import structlog

from infra.cohort.driving import Result, closed, without_content
from infra.shadow.asked import Runs
from infra.shadow.candidates import Asker, Skipped
from infra.shadow.questions import AskShadow, ChangeShadow, KeepCompared
from infra.shadow.shadow import Compared, Shadow, Told
from infra.wiring import World
from runtime.errors import Retryable
from runtime.keyring import read_forgotten
from runtime.log import Delivery, Stored
from runtime.sealing import run_key
from schemas import subjects
from schemas.canonical import read_json
from schemas.envelope import Fact
from schemas.errors import MilepostError
from schemas.events import RunRequested
from schemas.sealing import Sealed
from schemas.tools import Value
from services.evaluation.agreement import Agreement

log = structlog.get_logger("infra.shadow")

ASK_S = 15.0
BEAT_S = 1.5
TRIES = 5
GIVE_UP_S = 600.0
ROOM = 8
QUOTES = 400 * 1024  # what a message carries beside the figures


class Watch:
    """One shadow at work."""

    def __init__(self, world: World, shadow: Shadow, asker: Asker) -> None:
        self._world, self._shadow, self._asker = world, shadow, asker
        self._runs = Runs(world.log)
        self._room = asyncio.Semaphore(asker.at_once)
        self._tokens = 0
        self.compared = 0

    async def run(self) -> None:
        """Work until cancelled. Raises UnknownShadow when it was removed."""
        await self._spent()
        shadow, room = self._shadow, max(ROOM, 2 * self._asker.at_once)
        async with AsyncExitStack() as hearing, asyncio.TaskGroup() as group:
            await hearing.enter_async_context(self._world.bus.hear(subjects.forget("*"), self._on_forget))
            async with aclosing(self._world.log.facts(shadow.group, since=shadow.since, room=room)) as facts:  # type: ignore[type-var]  # an async generator
                async for delivery in facts:
                    if self._wants(delivery.message):
                        group.create_task(self._look(delivery))
                    else:
                        await delivery.ack()

    def _wants(self, fact: Fact) -> bool:
        if fact.tenant != self._shadow.tenant or isinstance(fact.body, Sealed) or fact.time < self._shadow.since:
            return False
        return self._asker.wants(fact.body) and self._shadow.sees(fact.run)

    async def _look(self, delivery: Delivery[Fact]) -> None:
        async with _working(delivery):
            try:
                compared = await self._compare(delivery)
                if compared is not None:
                    await self._keep(compared)
                    self.compared += 1
                await delivery.ack()
            except Retryable as error:
                log.warning("not compared yet", run=delivery.message.run, why=error.what)
                with suppress(Retryable):
                    await delivery.again(1.0)

    async def _compare(self, delivery: Delivery[Fact]) -> Compared | None:
        """What comes of an answer; None for one of a run that cannot be read any more, or that is a fork."""
        fact = delivery.message
        async with self._room:
            facts = await self._runs.upto(fact)
            request = next((each.fact.body for each in facts if isinstance(each.fact.body, RunRequested)), None)
            if request is None or request.fork is not None:
                return None
            limit = self._shadow.tokens_per_hour
            if limit is not None and self._tokens >= limit:
                await self._spent()
                if self._tokens >= limit:
                    return self._nothing(fact, len(facts), "skipped", "the tokens of this hour are spent")
            try:
                async with asyncio.timeout(GIVE_UP_S):
                    found = await self._asker.compare(fact.run, facts)
            except Retryable:
                if delivery.attempt < TRIES:
                    raise
                return self._nothing(fact, len(facts), "failed", "the candidate was away")
            except TimeoutError:
                return self._nothing(fact, len(facts), "failed", "the candidate did not answer in time")
            except Exception as error:  # a candidate may do anything; its message may quote the run, its type does not
                log.warning("the candidate failed", run=fact.run, error=type(error).__name__)
                return self._nothing(fact, len(facts), "failed", type(error).__name__)
        if isinstance(found, Skipped):
            return self._nothing(fact, len(facts), "skipped", found.why)
        return await self._told(fact, facts, request, found)

    async def _told(self, fact: Fact, facts: tuple[Stored, ...], request: RunRequested, found: Agreement) -> Compared:
        """What is quoted goes under the run's key, so that it is erased with it; a run in the clear is not quoted."""
        result = Result(
            run=fact.run, tenant=fact.tenant, datakey=fact.header.datakey, agent=request.agent.name, started=fact.time,
            agreement=found,
        )  # fmt: skip
        key = await self._key(fact)
        quoting = closed(result, key) if key is not None and found.risk != "same" else result
        if quoting.sealed is None or len(quoting.sealed) > QUOTES:
            quoting = without_content(result)
        return Compared(
            run=fact.run, event=len(facts), risk=found.risk, tokens=found.driven.tokens, at=self._world.clock.now(),
            result=quoting,
        )  # fmt: skip

    async def _key(self, fact: Fact) -> bytes | None:
        if fact.header.datakey is None:
            return None
        secret = (await self._world.keyring.key(fact.tenant, fact.header.datakey)).secret
        return run_key(secret, fact.run) if secret else None

    def _nothing(self, fact: Fact, event: int, risk: str, why: str) -> Compared:
        result = Result(run=fact.run, tenant=fact.tenant)
        values = {"run": fact.run, "event": event, "risk": risk, "why": why, "at": self._world.clock.now(), "result": result}
        return Compared.model_validate(values)

    async def _keep(self, compared: Compared) -> None:
        shadow = self._shadow
        await self._ask("keep_compared", KeepCompared(tenant=shadow.tenant, name=shadow.name, compared=compared))

    async def well(self) -> None:
        """Nothing is in its way any more."""
        if self._shadow.trouble:
            await self._ask("change_shadow", ChangeShadow(tenant=self._shadow.tenant, name=self._shadow.name, trouble=""))

    async def _spent(self) -> None:
        await self._ask("shadow_tokens", AskShadow(tenant=self._shadow.tenant, name=self._shadow.name))

    async def _ask(self, verb: str, question: Value) -> None:
        """Ask the keeper of shadows, which answers with the tokens of the last hour."""
        raw = question.model_dump_json(by_alias=True).encode()
        said = read_json(await self._world.bus.ask(subjects.question("recorder", verb), raw, ASK_S), limit=1024)
        tokens = said.get("tokens") if isinstance(said, dict) else None
        self._tokens = tokens if isinstance(tokens, int) else 0

    async def _on_forget(self, subject: str, raw: bytes) -> None:
        self._runs.forget(read_forgotten(raw))


@asynccontextmanager
async def _working(delivery: Delivery[Fact]) -> AsyncIterator[None]:
    """Tell the log that it is being worked on, for as long as that takes."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            with suppress(Retryable):
                await delivery.working()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


async def the_shadow(world: World, tenant: str, name: str) -> Shadow:
    """A shadow by its name. Raises MilepostError, Unreachable."""
    raw = AskShadow(tenant=tenant, name=name).model_dump_json().encode()
    said = read_json(await world.bus.ask(subjects.question("recorder", "shadows"), raw, ASK_S), limit=8 * 1024 * 1024)
    if not isinstance(said, list) or len(said) != 1:
        raise MilepostError(f"There is no shadow {name}.", hint="milepost shadow ls")
    return Told.model_validate(said[0]).shadow
