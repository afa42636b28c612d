"""Questions about shadows, which the recorder's process answers: a shadow itself has no database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import orjson
from pydantic import Field, ValidationError

from infra.shadow.shadow import Compared, Shadow, ShadowTaken, State, Told, UnknownShadow
from runtime.clock import Clock
from runtime.service import Service
from schemas.canonical import JsonObject, canonical, read_json
from schemas.errors import ProtocolError
from schemas.ids import Token
from schemas.tools import Value

QUESTION_BYTES = 1024 * 1024
PAGE_BYTES = 512 * 1024
PAGE = 500
HOUR = timedelta(hours=1)

ValueT = TypeVar("ValueT", bound=Value)


class ShadowStore(Protocol):
    """Where shadows and what they came to are kept; every tenant's by themselves."""

    async def add(self, shadow: Shadow) -> bool:
        """Keep a new one; False if its name is taken."""
        ...

    async def shadows(self, tenant: str, name: str | None = None) -> list[Told]:
        """Those of a tenant, or the one of a name, by name."""
        ...

    async def running(self) -> list[Shadow]:
        """Those of all tenants that are to run."""
        ...

    async def change(self, tenant: str, name: str, values: dict[str, object], expected: str | None = None) -> bool:
        """Change columns of one; False if there is none, or if its state is not the expected one."""
        ...

    async def drop(self, tenant: str, name: str) -> None:
        """Forget one with all that it came to."""
        ...

    async def keep(self, tenant: str, name: str, compared: Compared) -> None:
        """Keep what came of one answer; what is there already stays. UnknownShadow if there is no such shadow."""
        ...

    async def tokens(self, tenant: str, name: str, since: datetime) -> int:
        """How many tokens its candidate has taken since then."""
        ...

    async def results(self, tenant: str, name: str, after: tuple[str, int], limit: int) -> list[Compared]:
        """What it came to, by run and event, from the one behind a place."""
        ...


class AskShadow(Value):
    """Which shadow; all of the tenant's without a name."""

    tenant: Token
    name: Token | None = None


class PutShadow(Value):
    """A new shadow."""

    shadow: Shadow


class ChangeShadow(Value):
    """What of a shadow becomes another. expected: only if it is in this state."""

    tenant: Token
    name: Token
    expected: State | None = None
    state: State | None = None
    trouble: str | None = Field(default=None, max_length=2000)
    before: JsonObject | None = None
    promoted: datetime | None = None
    note: str | None = Field(default=None, max_length=2000)


class KeepCompared(Value):
    """What a shadow came to."""

    tenant: Token
    name: Token
    compared: Compared


class AskResults(Value):
    """A page of what it came to, behind a place."""

    tenant: Token
    name: Token
    run: str = ""
    event: int = 0


class ShadowQuestions:
    """The questions and their answers. changed: called when other shadows are to run than before."""

    def __init__(self, store: ShadowStore, clock: Clock, changed: Callable[[], None] = lambda: None) -> None:
        self._store, self._clock, self._changed = store, clock, changed

    def answer(self, service: Service) -> None:
        """Have a service answer them."""
        service.answer("put_shadow")(self.put)
        service.answer("shadows")(self.shadows)
        service.answer("change_shadow")(self.change)
        service.answer("drop_shadow")(self.drop)
        service.answer("keep_compared")(self.keep)
        service.answer("shadow_tokens")(self.tokens)
        service.answer("shadow_results")(self.results)

    async def put(self, raw: bytes) -> bytes:
        """PutShadow -> {}. Raises ShadowTaken."""
        shadow = _read(PutShadow, raw).shadow
        if not await self._store.add(shadow):
            raise ShadowTaken(
                f"There is a shadow {shadow.name} already.", why="what it came to belongs to its candidate",
                hint=f"take another name, or first: milepost shadow rm {shadow.name}",
            )  # fmt: skip
        self._changed()
        return canonical({})

    async def shadows(self, raw: bytes) -> bytes:
        """AskShadow -> Told list. Raises UnknownShadow for a name that none has."""
        asked = _read(AskShadow, raw)
        found = await self._store.shadows(asked.tenant, asked.name)
        if asked.name is not None and not found:
            raise _unknown(asked.name)
        return orjson.dumps([each.model_dump(mode="json", by_alias=True) for each in found])

    async def change(self, raw: bytes) -> bytes:
        """ChangeShadow -> {}. Raises UnknownShadow, ProtocolError for one in another state than is expected."""
        asked = _read(ChangeShadow, raw)
        values = asked.model_dump(exclude={"tenant", "name", "expected"}, exclude_none=True)
        if not await self._store.change(asked.tenant, asked.name, values, asked.expected):
            if not await self._store.shadows(asked.tenant, asked.name):
                raise _unknown(asked.name)
            raise ProtocolError(
                f"The shadow {asked.name} is not {asked.expected} any more.", why="somebody else has changed it",
                hint=f"milepost shadow show {asked.name}",
            )  # fmt: skip
        self._changed()
        return canonical({})

    async def drop(self, raw: bytes) -> bytes:
        """AskShadow -> {}."""
        asked = _read(AskShadow, raw)
        await self._store.drop(asked.tenant, asked.name or "")
        self._changed()
        return canonical({})

    async def keep(self, raw: bytes) -> bytes:
        """KeepCompared -> the tokens of the last hour. Raises UnknownShadow."""
        asked = _read(KeepCompared, raw)
        await self._store.keep(asked.tenant, asked.name, asked.compared)
        return await self._tokens(asked.tenant, asked.name)

    async def tokens(self, raw: bytes) -> bytes:
        """AskShadow -> the tokens of the last hour."""
        asked = _read(AskShadow, raw)
        return await self._tokens(asked.tenant, asked.name or "")

    async def _tokens(self, tenant: str, name: str) -> bytes:
        return canonical({"tokens": await self._store.tokens(tenant, name, self._clock.now() - HOUR)})

    async def results(self, raw: bytes) -> bytes:
        """AskResults -> Compared list, as many as a message takes; empty behind the last one."""
        asked = _read(AskResults, raw)
        found: list[bytes] = []
        for each in await self._store.results(asked.tenant, asked.name, (asked.run, asked.event), PAGE):
            found.append(each.model_dump_json(exclude_defaults=True).encode())
            if sum(map(len, found)) > PAGE_BYTES and len(found) > 1:
                found.pop()
                break
        return b"[" + b",".join(found) + b"]"


def _unknown(name: str) -> UnknownShadow:
    return UnknownShadow(f"There is no shadow {name}.", hint="milepost shadow ls")


def _read(kind: type[ValueT], raw: bytes) -> ValueT:
    try:
        return kind.model_validate(read_json(raw, limit=QUESTION_BYTES))
    except ValidationError as error:
        raise ProtocolError(f"The question is no {kind.__name__}.", why=str(error)[:300]) from error
