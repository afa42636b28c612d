"""Questions about sources: what was imported, put in and taken out by asking. A source counts from put_source on.

No message comes near a megabyte: specs come in batches, and what a newer import does not have is told range by range.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import Field, ValidationError

from runtime.bus import Bus
from runtime.service import Service
from schemas import subjects
from schemas.canonical import canonical, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import Token
from schemas.tools import Value
from services.tools.sources import Source, SourceKind, SourceStore, Spec

QUESTION_BYTES = 1024 * 1024
SHARED = "*"


class PutSource(Value):
    """Host this source from now on, or with these settings."""

    source: Source


class PutSpecs(Value):
    """Tools of a source."""

    tenant: str
    lane: Token
    specs: tuple[Spec, ...] = Field(max_length=1000)


class KeepOnly(Value):
    """Which tools of a range of names there are; others are dropped, some at a time. Answered with their names."""

    tenant: str
    lane: Token
    names: tuple[str, ...] = Field(default=(), max_length=5000)
    after: str = ""
    upto: str | None = None


class DropSource(Value):
    """Forget a source and its tools."""

    tenant: str
    lane: Token


class CheckLane(Value):
    """May a source of this kind have this lane?"""

    tenant: str
    lane: Token
    kind: SourceKind


class Sources(Value):
    """Which sources a tenant has; shared ones beside."""

    tenant: Token


class KnownSource(Value):
    """A source, and how many tools it has."""

    source: Source
    tools: int


class LaneTaken(MilepostError):
    """A lane cannot be given to a source."""


AskedT = TypeVar("AskedT", bound=Value)


class SourceQuestions:
    """The questions and their answers. reserved: lanes that the stack's own hosts have."""

    def __init__(self, store: SourceStore, bus: Bus, reserved: frozenset[str]) -> None:
        self._store, self._bus, self._reserved = store, bus, reserved

    def answer(self, service: Service) -> None:
        """Have a service answer them."""
        service.answer("check_lane")(self.check_lane)
        service.answer("put_source")(self.put_source)
        service.answer("put_specs")(self.put_specs)
        service.answer("keep_only")(self.keep_only)
        service.answer("drop_source")(self.drop_source)
        service.answer("sources")(self.sources)

    async def check_lane(self, raw: bytes) -> bytes:
        """CheckLane -> {}. Raises LaneTaken."""
        asked = _read(CheckLane, raw)
        await self._check_free(asked.tenant, asked.lane, asked.kind)
        return canonical({})

    async def put_source(self, raw: bytes) -> bytes:
        """PutSource -> {}; every host of imported tools is told. Raises LaneTaken."""
        source = _read(PutSource, raw).source
        await self._check_free(source.tenant, source.lane, source.kind)
        await self._store.put(source)
        await self._tell(source.tenant)
        return canonical({})

    async def put_specs(self, raw: bytes) -> bytes:
        """PutSpecs -> Stored. Raises LaneTaken. The catalogue finds out which cards are sound, before they are offered."""
        asked = _read(PutSpecs, raw)
        self._check_own(asked.lane)
        for spec in asked.specs:
            if spec.card.lane != asked.lane:
                raise ProtocolError(f"The card of {spec.card.name} is of another lane.", why=spec.card.lane)
        stored = await self._store.put_specs(asked.tenant, asked.lane, asked.specs)
        return stored.model_dump_json().encode()

    async def keep_only(self, raw: bytes) -> bytes:
        """KeepOnly -> names that were dropped."""
        asked = _read(KeepOnly, raw)
        return canonical(await self._store.keep_only(asked.tenant, asked.lane, asked.names, asked.after, asked.upto))

    async def drop_source(self, raw: bytes) -> bytes:
        """DropSource -> {}; every host is told."""
        asked = _read(DropSource, raw)
        await self._store.drop(asked.tenant, asked.lane)
        await self._tell(asked.tenant)
        return canonical({})

    async def sources(self, raw: bytes) -> bytes:
        """Sources -> KnownSource list."""
        asked = _read(Sources, raw)
        own = [source for source in await self._store.sources() if source.tenant in (asked.tenant, SHARED)]
        known = [KnownSource(source=source, tools=await self._store.count(source.tenant, source.lane)) for source in own]
        return canonical([each.model_dump(mode="json") for each in known])

    async def _tell(self, tenant: str) -> None:
        await self._bus.tell(subjects.sources("_all" if tenant == SHARED else tenant), b"")

    async def _check_free(self, tenant: str, lane: str, kind: SourceKind) -> None:
        self._check_own(lane)
        for other in await self._store.sources():
            if (other.tenant, other.lane) == (tenant, lane) and other.kind != kind:
                raise LaneTaken(
                    f"The lane {lane} has tools of another kind.", why=f"they are of {other.kind}: {other.title}",
                    hint=f"give --lane another name, or first: milepost tools sources rm {lane}",
                )  # fmt: skip

    def _check_own(self, lane: str) -> None:
        if lane in self._reserved:
            raise LaneTaken(
                f"The lane {lane} is Milepost's own.", why="its host has tools already", hint="give --lane another name"
            )


def _read(kind: type[AskedT], raw: bytes) -> AskedT:
    try:
        return kind.model_validate(read_json(raw, limit=QUESTION_BYTES))
    except ValidationError as error:
        raise ProtocolError(f"The question is no {kind.__name__}.", why=str(error)[:300]) from error
