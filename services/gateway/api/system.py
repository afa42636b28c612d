"""The console's system page: processes, services, queues, models, storage, dead letters, and the keys of the door.

What is the machine's (processes, queues, disk) is told to the stack's own tenant; others see their own runs and the services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from schemas.ids import Token
from schemas.runs import ListRuns, RunFilter, RunSummary
from schemas.tools import Value
from services.gateway.answers import Conflict, NotThere
from services.gateway.door import Here, Manager, Reader
from services.gateway.gateway import Gateway
from services.gateway.keys import DoorKey, new_key
from services.gateway.ports.machinery import DeadLetter, Gpu, ProcessNow, QueueNow, ServiceNow, StorageNow
from services.gateway.principal import DoorRole, Principal

router = APIRouter()

MINUTES = 15
_LOOKED_AT = 500
_OWN_LANES = ("main", "builtin")
"""Lanes of the stack itself; others are named after what tenants imported."""

LetterId = Annotated[str, Path(pattern=r"^[1-9][0-9]{0,17}$")]
KeyId = Annotated[str, Path(pattern=r"^[0-9a-f]{1,64}$")]


class System(Value):
    """How the stack is now. machine: whether processes, queues and letters are told to this tenant; dead: how many letters."""

    at: datetime
    version: str
    machine: bool
    services: tuple[ServiceNow, ...]
    processes: tuple[ProcessNow, ...] = ()
    queues: tuple[QueueNow, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    dead: int = 0


class Minute(Value):
    """Runs of one minute. p50_ms, p95_ms: of those that ended in it, from the request to the end; None if none did."""

    at: datetime
    started: int = 0
    ended: int = 0
    failed: int = 0
    tokens: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None


class Activity(Value):
    """The tenant's runs of the last quarter of an hour, minute by minute, oldest first.

    complete: whether they were all looked at; where not, the oldest minutes say too little.
    """

    minutes: tuple[Minute, ...]
    complete: bool


class Letters(Value):
    """Newest first."""

    letters: tuple[DeadLetter, ...]


class Requeued(Value):
    """Where a letter was sent."""

    id: str
    subject: str


class Discarded(Value):
    """A letter that is gone."""

    id: str


class Key(Value):
    """A key of the door, without its secret."""

    id: str
    name: str
    user: str
    roles: tuple[DoorRole, ...]
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None


class Keys(Value):
    """The tenant's, newest first."""

    keys: tuple[Key, ...]


class NewKey(Value):
    """A key to make. user: in whose name, the maker's if not said; days: how long it is good."""

    name: str = Field(min_length=1, max_length=200, pattern=r"\S")
    user: Token | None = None
    roles: tuple[DoorRole, ...] = Field(min_length=1, max_length=5)
    days: int | None = Field(default=None, ge=1, le=3650)


class MadeKey(Key):
    """A key with its text, which is shown this once."""

    text: str


@router.get("/api/system")
async def system(gateway: Here, who: Reader) -> System:
    """How the stack is now. Raises Unreachable."""
    machinery, now = gateway.machinery, gateway.clock.now()
    if who.tenant != gateway.local.tenant:
        services = tuple(each for each in await machinery.services() if each.lane in _OWN_LANES)
        return System(at=now, version=gateway.version, machine=False, services=services)
    told, processes, queues, gpus, dead = await asyncio.gather(
        machinery.services(), machinery.processes(), machinery.queues(), machinery.gpus(), machinery.dead_count()
    )
    return System(
        at=now, version=gateway.version, machine=True, services=tuple(told), processes=tuple(processes),
        queues=tuple(queues), gpus=tuple(gpus), dead=dead,
    )  # fmt: skip


@router.get("/api/system/activity")
async def activity(gateway: Here, who: Reader) -> Activity:
    """What the tenant's runs did in the last quarter of an hour."""
    now = gateway.clock.now()
    since = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)
    asked = ListRuns(which=RunFilter(tenant=who.tenant, since=since), limit=_LOOKED_AT)
    found = await gateway.ask_list("recorder", "runs", asked.model_dump(mode="json"))
    runs = [RunSummary.model_validate(each) for each in found]
    minutes = [_minute(since + timedelta(minutes=n), runs) for n in range(MINUTES)]
    return Activity(minutes=tuple(minutes), complete=len(runs) < _LOOKED_AT)


@router.get("/api/system/storage")
async def storage(gateway: Here, who: Reader) -> StorageNow:
    """What is stored where. Nothing for another tenant than the stack's own."""
    return await gateway.machinery.storage() if who.tenant == gateway.local.tenant else StorageNow()


@router.get("/api/system/dead")
async def dead_letters(gateway: Here, who: Manager, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Letters:
    """Messages that nobody could read: the tenant's; for the stack's own also those that are nobody's."""
    found = await gateway.machinery.dead_letters(limit)
    return Letters(letters=tuple(each for each in found if _concerns(gateway, who, each)))


@router.post("/api/system/dead/{id}/requeue")
async def requeue(gateway: Here, who: Manager, id: LetterId) -> Requeued:
    """Send a dead letter where it was sent first; whoever reads it may bury it again. Raises NotThere, and why it cannot be."""
    await _letter(gateway, who, id)
    return Requeued(id=id, subject=await gateway.machinery.requeue(id))


@router.delete("/api/system/dead/{id}")
async def discard(gateway: Here, who: Manager, id: LetterId) -> Discarded:
    """Forget a dead letter. Raises NotThere."""
    await _letter(gateway, who, id)
    if not await gateway.machinery.discard(id):
        raise _no_letter(id)
    return Discarded(id=id)


@router.get("/api/system/keys")
async def keys(gateway: Here, who: Manager) -> Keys:
    """The keys of the door; nobody can tell their secrets any more."""
    return Keys(keys=tuple(_shown(each) for each in await gateway.keys.keys(who.tenant)))


@router.post("/api/system/keys", status_code=201)
async def add_key(gateway: Here, who: Manager, asked: NewKey) -> MadeKey:
    """Make a key of the tenant. Its text is in this answer and nowhere else."""
    now = gateway.clock.now()
    expires = now + timedelta(days=asked.days) if asked.days else None
    roles = tuple(dict.fromkeys(asked.roles))
    kept, text = new_key(who.tenant, asked.name.strip(), asked.user or who.user, roles, now, expires)
    await gateway.keys.put(kept)
    return MadeKey(**_shown(kept).model_dump(), text=text)


@router.delete("/api/system/keys/{id}")
async def revoke_key(gateway: Here, who: Manager, id: KeyId) -> Key:
    """Let a key open nothing any more; doors notice within seconds. Raises NotThere, Conflict for one's own."""
    if id == who.key and who.via == "key":
        raise Conflict(
            "The key that you came with is not revoked by yourself.", hint="another administrator does, or a terminal"
        )
    await gateway.keys.revoke(who.tenant, id, gateway.clock.now())
    found = await gateway.keys.get(who.tenant, id)
    if found is None:
        raise NotThere(f"There is no key {id}.", hint="GET /api/system/keys lists them")
    return _shown(found)


def _shown(key: DoorKey) -> Key:
    return Key.model_validate(key.model_dump())


def _concerns(gateway: Gateway, who: Principal, letter: DeadLetter) -> bool:
    return letter.tenant == who.tenant or (who.tenant == gateway.local.tenant and letter.tenant in ("", "*"))


async def _letter(gateway: Gateway, who: Principal, id: str) -> DeadLetter:
    found = await gateway.machinery.dead_letter(id)
    if found is None or not _concerns(gateway, who, found):
        raise _no_letter(id)
    return found


def _no_letter(id: str) -> NotThere:
    return NotThere(f"There is no dead letter {id}.", why="it was sent again or discarded, or is not yours")


def _minute(at: datetime, runs: Sequence[RunSummary]) -> Minute:
    end = at + timedelta(minutes=1)
    over = [run for run in runs if run.ended and at <= run.ended < end]
    took = sorted((run.ended - run.started) / timedelta(milliseconds=1) for run in over if run.ended)
    return Minute(
        at=at, started=sum(at <= run.started < end for run in runs), ended=len(over),
        failed=sum(run.status == "failed" for run in over), tokens=sum(run.tokens for run in over),
        p50_ms=_percentile(took, 0.5), p95_ms=_percentile(took, 0.95),
    )  # fmt: skip


def _percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest rank, of values in order."""
    return values[min(len(values) - 1, round(share * (len(values) - 1)))] if values else None
