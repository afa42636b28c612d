"""Questions about effects: what the ledger holds, and what a person says about an entry in doubt."""

from __future__ import annotations

from typing import TypeVar

from pydantic import Field, ValidationError

from schemas.canonical import canonical, read_json
from schemas.errors import ProtocolError
from schemas.ids import Token
from schemas.tools import Value
from services.tools.ledger import Effect, EffectFilter, EffectLedger, UnknownEffect
from services.tools.settling import Settler

QUESTION_BYTES = 64 * 1024

ValueT = TypeVar("ValueT", bound=Value)


class ListEffects(Value):
    """Verb `effects`: entries of a tenant, the last claimed first."""

    tenant: Token = "default"
    which: EffectFilter = EffectFilter()
    limit: int = Field(default=50, ge=1, le=200)


class AboutEffect(Value):
    """Verbs `effect` and `effect_reconcile-{lane}`: one entry, by its key or at least eight digits of it."""

    tenant: Token = "default"
    key: str = Field(min_length=8, max_length=64)


class SettleEffect(AboutEffect):
    """Verb `effect_settle`: what a person found out about an entry in doubt."""

    happened: bool
    by: str = Field(min_length=1, max_length=200)
    note: str = Field(default="", max_length=2000)


class UndoneEffect(AboutEffect):
    """Verb `effect_undone`: the run that was begun to take an effect back."""

    run: str = Field(min_length=1, max_length=64)


def reconcile_verb(lane: str) -> str:
    """The verb that asks the host of a lane: it alone has the tools."""
    return f"effect_reconcile-{lane}"


class EffectQuestions:
    """Answers of one host; of those about the ledger alone any host's are the same."""

    def __init__(self, ledger: EffectLedger, settler: Settler | None) -> None:
        self._ledger, self._settler = ledger, settler

    async def list_effects(self, raw: bytes) -> bytes:
        """ListEffects -> entries."""
        asked = _read(ListEffects, raw)
        found = await self._ledger.list_effects(asked.tenant, asked.which, asked.limit)
        return canonical([effect.model_dump(mode="json") for effect in found])

    async def show(self, raw: bytes) -> bytes:
        """AboutEffect -> the entry. Raises UnknownEffect."""
        asked = _read(AboutEffect, raw)
        return _said(await self._one(asked))

    async def reconcile(self, raw: bytes) -> bytes:
        """AboutEffect -> the entry as it is after the provider was asked."""
        asked = _read(AboutEffect, raw)
        effect = await self._one(asked)
        return _said(await self._settling().reconcile(effect.tenant, effect.key))

    async def settle(self, raw: bytes) -> bytes:
        """SettleEffect -> the entry."""
        asked = _read(SettleEffect, raw)
        effect = await self._one(asked)
        settler = self._settling()
        return _said(await settler.settle(effect.tenant, effect.key, happened=asked.happened, by=asked.by, note=asked.note))

    async def undone(self, raw: bytes) -> bytes:
        """UndoneEffect -> the entry."""
        asked = _read(UndoneEffect, raw)
        effect = await self._one(asked)
        await self._ledger.undone(effect.key, effect.tenant, asked.run)
        return _said(await self._one(asked))

    async def _one(self, asked: AboutEffect) -> Effect:
        found = await self._ledger.show(asked.tenant, asked.key)
        if found is None:
            raise UnknownEffect(asked.key)
        return found

    def _settling(self) -> Settler:
        if self._settler is None:
            raise ProtocolError("This host settles nothing.", hint="ask the host of the tool's lane")
        return self._settler


def _said(effect: Effect) -> bytes:
    return canonical(effect.model_dump(mode="json"))


def _read(kind: type[ValueT], raw: bytes) -> ValueT:
    try:
        return kind.model_validate(read_json(raw, limit=QUESTION_BYTES))
    except ValidationError as error:
        raise ProtocolError(f"The question is no {kind.__name__}.", why=str(error)[:300]) from error
