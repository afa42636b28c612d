"""Forgetting a person: open runs are ended, the data key is destroyed, and what was derived from their content removed.

The order matters. First no new run may begin, then what is open ends, so that nobody acts half-way. Then the key goes: from
that moment the log says nothing, whatever happens to the rest. At last what others derived is removed; nothing can be
derived anew, for what it would be made from cannot be read any more. Each step may be done again: the record in the store is
open until the last one is done, and whoever finds it open goes on with it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

import orjson
import structlog
from pydantic import Field, ValidationError

from runtime.bus import Bus
from runtime.clock import Clock
from runtime.errors import Retryable
from runtime.keyring import write_forgotten
from runtime.log import Log
from runtime.service import Service
from schemas import subjects
from schemas.canonical import canonical, digest, read_json
from schemas.commands import Role
from schemas.envelope import new_fact, source_of
from schemas.errors import MilepostError, ProtocolError
from schemas.events import CancelRequested
from schemas.ids import CANCEL_SLOT, RunId, Token, checked_run
from schemas.tools import Value
from services.memory.keys import KeyStore

log = structlog.get_logger("services.memory")

ASK_S = 30.0
SETTLE_S = 1.0  # what was begun with a key given out just before is in the index by then
LOOK_S = 0.3
PATIENCE_S = 60.0
AGAIN_S = 15.0
PAGE = 500
_LIMIT = 4 * 1024 * 1024


class Report(Value):
    """What was done, in counts; nothing personal.

    cancelled: runs that were open. keys: data keys destroyed. unsealed: runs that were recorded in the clear, whose content
    the log keeps. runs, events, uses: of the index. effects: entries of the ledger that lost arguments and receipt; their keys
    stay, so that none repeats. policy: standing approvals and rights taken back that named the person. memory: rows removed, by
    kind. waiting_for: what keeps it from going on.
    """

    cancelled: int = 0
    keys: int = 0
    unsealed: int = 0
    runs: int = 0
    events: int = 0
    uses: int = 0
    effects: int = 0
    policy: int = 0
    memory: dict[str, int] = Field(default_factory=dict)
    waiting_for: str = ""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """A person's request to be forgotten. user: until it is done; subject: a digest that tells the same person again."""

    id: str
    tenant: str
    user: str | None
    subject: str
    asked_by: str
    asked: datetime
    finished: datetime | None
    report: Report


class ForgettingStore(Protocol):
    """The record of who was forgotten when."""

    async def begin(self, wanted: Forgetting) -> Forgetting:
        """Record it; the one of the same user that is under way, if there is one."""
        ...

    async def get(self, tenant: str, id: str) -> Forgetting | None:
        """One of the tenant's."""
        ...

    async def unfinished(self) -> list[Forgetting]:
        """All that are under way, of every tenant, the oldest first."""
        ...

    async def save(self, tenant: str, id: str, report: Report, finished: datetime | None = None) -> None:
        """How far it has come; finished: it is done, and the user is named no more. A finished one does not change."""
        ...


class PersonalRows(Protocol):
    """Where a person's turns, facts, summaries and vectors are kept."""

    async def forget_user(self, tenant: str, user: str) -> Value:
        """Remove all of them; how many of each kind, by field. Again, and there is nothing to do."""
        ...


class AskForget(Value):
    """Somebody asks to forget a user."""

    tenant: Token
    user: Token
    by: Token


class AskForgetting(Value):
    """Somebody asks how far it has come."""

    tenant: Token
    id: Token


class Forgetter:
    """Carries out what was asked, however often it is interrupted. name: of this process."""

    def __init__(
        self, keys: KeyStore, store: ForgettingStore, rows: PersonalRows, journal: Log, bus: Bus, clock: Clock, *, name: str
    ) -> None:
        self._keys, self._store, self._rows = keys, store, rows
        self._log, self._bus, self._clock = journal, bus, clock
        self._source = source_of("memory", name)
        self._asked = asyncio.Event()

    def answer(self, service: Service) -> None:
        """Let a service be asked: forget (AskForget -> its id), forgetting (AskForgetting -> Report)."""
        service.answer("forget")(self.forget)
        service.answer("forgetting")(self.forgetting)

    async def forget(self, raw: bytes) -> bytes:
        """Record that a user is to be forgotten; the work goes on by itself."""
        asked = _question(AskForget, raw)
        subject = digest("forgotten", asked.tenant, asked.user)
        wanted = Forgetting(
            secrets.token_hex(16), asked.tenant, asked.user, subject, asked.by, self._clock.now(), None, Report()
        )
        begun = await self._store.begin(wanted)
        self._asked.set()
        return orjson.dumps({"id": begun.id, "subject": subject, "asked": begun.asked})

    async def forgetting(self, raw: bytes) -> bytes:
        """How far one of them has come."""
        asked = _question(AskForgetting, raw)
        found = await self._store.get(asked.tenant, asked.id)
        if found is None:
            raise MilepostError(f"There is no forgetting {asked.id}.", hint="milepost forget --user USER")
        said = {"finished": found.finished, "report": found.report.model_dump(mode="json")}
        return orjson.dumps({"id": found.id, "subject": found.subject, "by": found.asked_by, "asked": found.asked, **said})

    async def work(self) -> None:
        """Carry out whatever is open, for ever."""
        while True:
            self._asked.clear()
            try:
                for each in await self._store.unfinished():
                    await self._try(each)
            except Retryable as error:
                log.warning("forgettings not read", why=error.what)
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await self._asked.wait()

    async def _try(self, each: Forgetting) -> None:
        try:
            await self.carry_out(each)
        except MilepostError as error:
            log.warning("not forgotten yet", forgetting=each.id, why=error.what)
            found = await self._store.get(each.tenant, each.id)
            if found:
                await self._store.save(each.tenant, each.id, found.report.model_copy(update={"waiting_for": error.what}))

    async def carry_out(self, each: Forgetting) -> None:
        """All steps; those that were done before find nothing to do. Raises Unreachable, RunsOpen."""
        tenant, user, report = each.tenant, each.user, each.report.model_copy(update={"waiting_for": ""})
        if user is None:
            return

        async def add(**counts: int) -> None:
            nonlocal report
            report = report.model_copy(update={name: getattr(report, name) + count for name, count in counts.items()})
            await self._store.save(tenant, each.id, report)

        await asyncio.sleep(SETTLE_S)
        await add(cancelled=await self._end_runs(tenant, user))
        keys = await self._keys.destroy(tenant, user)
        await self._bus.tell(subjects.forget(tenant), write_forgotten(keys))
        await add(keys=len(keys))
        async for runs in self._runs(tenant, user):
            await add(effects=await self._count("tools", "forget", {"tenant": tenant, "runs": runs}, "effects"))
        await add(policy=await self._count("policy", "forget", {"tenant": tenant, "user": user}, "rows"))
        index = await self._ask("recorder", "forget", {"tenant": tenant, "user": user})
        await add(**{name: _number(index, name) for name in ("runs", "events", "uses", "unsealed")})
        removed: dict[str, int] = (await self._rows.forget_user(tenant, user)).model_dump()
        memory = {name: report.memory.get(name, 0) + count for name, count in removed.items()}
        report = report.model_copy(update={"memory": {**report.memory, **memory}})
        await self._store.save(tenant, each.id, report, self._clock.now())
        log.info("forgotten", forgetting=each.id, tenant=tenant)

    async def _end_runs(self, tenant: str, user: str) -> int:
        """Ask every open run to stop, and wait until it has; the number that was asked. Raises RunsOpen."""
        asked: set[str] = set()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while still := await self._open_runs(tenant, user):
                    for run in still - asked:
                        await self._cancel(tenant, checked_run(run))
                    asked |= still
                    await asyncio.sleep(LOOK_S)
        except TimeoutError as error:
            raise RunsOpen(still) from error
        return len(asked)

    async def _open_runs(self, tenant: str, user: str) -> set[str]:
        answer = await self._ask("recorder", "runs_of", {"tenant": tenant, "user": user, "open": True, "limit": PAGE})
        return {str(run) for run in _list(answer)}

    async def _cancel(self, tenant: str, run: RunId) -> None:
        """In the clear: it says nothing of the person, and under their key it could not be read again."""
        cancel = CancelRequested(by="a request to forget its user")
        await self._log.append(
            new_fact(cancel, run=run, tenant=tenant, slot=CANCEL_SLOT, source=self._source, time=self._clock.now())
        )

    async def _runs(self, tenant: str, user: str) -> AsyncIterator[list[str]]:
        after = ""
        while True:
            question = {"tenant": tenant, "user": user, "after": after, "limit": PAGE}
            runs = [str(run) for run in _list(await self._ask("recorder", "runs_of", question))]
            if not runs:
                return
            yield runs
            after = runs[-1]

    async def _count(self, role: Role, verb: str, question: Mapping[str, object], name: str) -> int:
        return _number(await self._ask(role, verb, question), name)

    async def _ask(self, role: Role, verb: str, question: Mapping[str, object]) -> object:
        raw = await self._bus.ask(subjects.question(role, verb), canonical(dict(question)), ASK_S)
        return read_json(raw, limit=_LIMIT)


class RunsOpen(Retryable):
    """Runs of the user do not end: a write is under way, or a conductor is away."""

    def __init__(self, runs: set[str]) -> None:
        super().__init__(f"{len(runs)} runs have not ended yet: {', '.join(sorted(runs)[:3])}.", hint="milepost status")


QuestionT = TypeVar("QuestionT", bound=Value)


def _question(kind: type[QuestionT], raw: bytes) -> QuestionT:
    try:
        return kind.model_validate(read_json(raw, limit=64 * 1024))
    except ValidationError as error:
        raise ProtocolError(f"The question is no {kind.__name__}.", why=str(error)[:300]) from error


def _list(answer: object) -> list[object]:
    if not isinstance(answer, list):
        raise ProtocolError("The recorder answered with something else than a list.")
    return answer


def _number(answer: object, name: str) -> int:
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, int):
        raise ProtocolError(f"The answer has no number {name}.")
    return found
