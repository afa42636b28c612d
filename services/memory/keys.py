"""Data keys: one a person, made when their first run begins, given out to those who read and write it, destroyed once."""

from __future__ import annotations

import base64
import secrets
from typing import Protocol

import orjson
from pydantic import ValidationError

from runtime.keyring import VERB, AskKey, BeingForgotten, KeyAnswer
from runtime.sealing import KEY_BYTES, DataKey
from runtime.service import Service
from schemas.canonical import read_json
from schemas.errors import ProtocolError

_LIMIT = 4096


def new_key() -> DataKey:
    """A key that nobody has yet."""
    return DataKey(secrets.token_hex(16), secrets.token_bytes(KEY_BYTES))


class KeyStore(Protocol):
    """The keys of every tenant. Of several that ask for a new user's key at once, all get the same."""

    async def key_of(self, tenant: str, user: str) -> DataKey:
        """The key of a user, made if there is none. Raises BeingForgotten."""
        ...

    async def key(self, tenant: str, id: str) -> DataKey | None:
        """A key by its id, without its secret if it was destroyed; None if the tenant never had it."""
        ...

    async def destroy(self, tenant: str, user: str) -> tuple[str, ...]:
        """Destroy the user's key for good; the ids of what was destroyed now. Again, and there is nothing to do."""
        ...


def answer_for_keys(service: Service, store: KeyStore) -> None:
    """Let a service give keys out: AskKey -> KeyAnswer."""

    @service.answer(VERB)
    async def data_key(raw: bytes) -> bytes:
        try:
            asked = AskKey.model_validate(read_json(raw, limit=_LIMIT))
        except ValidationError as error:
            raise ProtocolError("The question is for no data key.", why=str(error)[:300]) from error
        if (asked.user is None) == (asked.id is None):
            raise ProtocolError("A data key is asked for by its user or by its id.")
        return orjson.dumps((await _answer(store, asked)).model_dump(mode="json"))


async def _answer(store: KeyStore, asked: AskKey) -> KeyAnswer:
    try:
        key = await (store.key_of(asked.tenant, asked.user) if asked.user else store.key(asked.tenant, asked.id or ""))
    except BeingForgotten:
        return KeyAnswer(state="forgetting")
    if key is None:
        return KeyAnswer(state="unknown")
    if key.secret is None:
        return KeyAnswer(state="destroyed", id=key.id)
    return KeyAnswer(state="live", id=key.id, secret=base64.b64encode(key.secret).decode())
