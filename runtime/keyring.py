"""Data keys over the bus: asked of the memory service, kept for a while, dropped when a person is forgotten."""

from __future__ import annotations

import base64
import time
from collections import OrderedDict
from typing import Literal

import orjson
from pydantic import ValidationError

from runtime.bus import Bus
from runtime.errors import Permanent, Retryable, Unreachable
from runtime.sealing import DataKey, UnknownKey
from schemas import subjects
from schemas.canonical import canonical, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import Token
from schemas.tools import Value

VERB = "data_key"
ASK_S = 5.0
KEPT = 10_000
KEPT_S = 600.0
_LIMIT = 4096


class BeingForgotten(Permanent):
    """The user is being forgotten; new runs of theirs wait until that is done."""

    def __init__(self) -> None:
        super().__init__(
            "This user is being forgotten.", why="what is begun now would be erased as well", hint="ask again in a moment"
        )


class AskKey(Value):
    """A question for a data key: the one of a user (made if there is none), or the one of an id."""

    tenant: Token
    user: Token | None = None
    id: Token | None = None


class KeyAnswer(Value):
    """A key, base64; or why there is none."""

    state: Literal["live", "destroyed", "unknown", "forgetting"]
    id: str = ""
    secret: str = ""


class Forgotten(Value):
    """Keys that were destroyed."""

    keys: tuple[str, ...]


def write_forgotten(keys: tuple[str, ...]) -> bytes:
    """The message that tells every process which keys were destroyed."""
    return orjson.dumps(Forgotten(keys=keys).model_dump(mode="json"))


def read_forgotten(raw: bytes) -> frozenset[str]:
    """The ids in such a message. Raises ProtocolError."""
    try:
        return frozenset(Forgotten.model_validate(read_json(raw, limit=1024 * 1024)).keys)
    except ValidationError as error:
        raise ProtocolError("The message names no keys.", why=str(error)[:300]) from error


class BusKeyring:
    """Keys as the memory service gives them out; at most KEPT of them, none for longer than KEPT_S seconds."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._told = 0  # how often keys were destroyed
        self._kept: OrderedDict[tuple[str, str], tuple[float, DataKey]] = OrderedDict()
        self._users: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def key_of(self, tenant: str, user: str) -> DataKey:
        """Asked anew for every run: only its owner knows whether the user is being forgotten.

        Nobody is forgotten while the owner is away: then the key it last gave for the user serves.
        """
        told = self._told
        try:
            key = await self._ask(AskKey(tenant=tenant, user=user))
        except Unreachable:
            kept = self._kept.get((tenant, self._users.get((tenant, user), "")))
            if kept is None or time.monotonic() - kept[0] >= KEPT_S:
                raise
            return kept[1]
        if told != self._told:  # it may have been destroyed on the way
            return key
        self._users[tenant, user] = key.id
        while len(self._users) > KEPT:
            self._users.popitem(last=False)
        return self._keep(tenant, key)

    async def key(self, tenant: str, id: str) -> DataKey:
        kept = self._kept.get((tenant, id))
        if kept is not None and time.monotonic() - kept[0] < KEPT_S:
            self._kept.move_to_end((tenant, id))
            return kept[1]
        told = self._told
        key = await self._ask(AskKey(tenant=tenant, id=id))
        return self._keep(tenant, key) if told == self._told else key  # it may have been destroyed on the way

    async def on_forget(self, subject: str, raw: bytes) -> None:
        """Hear: keys were destroyed."""
        tenant = subject.rsplit(".", 1)[-1]
        self._told += 1
        for id in read_forgotten(raw):
            self._kept.pop((tenant, id), None)

    async def _ask(self, question: AskKey) -> DataKey:
        asked = canonical(question.model_dump(exclude_none=True))
        try:
            raw = await self._bus.ask(subjects.question("memory", VERB), asked, ASK_S)
            answer = KeyAnswer.model_validate(read_json(raw, limit=_LIMIT))
        except Retryable:
            raise
        except (MilepostError, ValidationError) as error:  # its database may be away: that passes
            raise Unreachable("The memory service gave no data key.", why=str(error)[:300], hint="milepost status") from error
        if answer.state == "forgetting":
            raise BeingForgotten
        if answer.state == "unknown":
            raise UnknownKey(question.tenant, question.id or "")
        return DataKey(answer.id, base64.b64decode(answer.secret) if answer.state == "live" else None)

    def _keep(self, tenant: str, key: DataKey) -> DataKey:
        self._kept[tenant, key.id] = (time.monotonic(), key)
        self._kept.move_to_end((tenant, key.id))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return key
