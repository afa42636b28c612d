"""Sealing: what a message says goes to disk as AES-256-GCM under the data key of the person it is about.

Every run has a key of its own, made from the data key by HKDF-Expand (RFC 5869, section 2.3; the data key is random, so
nothing needs to be extracted first): so many messages never share a key that a random nonce could repeat, and a run can be
given away with its key while all others stay closed.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runtime.errors import Permanent, Unreachable
from schemas.envelope import Envelope, Fact, Order, checked_fact, checked_order, decode_content, encode_content
from schemas.errors import ProtocolError
from schemas.events import RunRequested
from schemas.ids import RunId
from schemas.sealing import PLAIN, SEALED, Sealed

NONCE_BYTES = 12
KEY_BYTES = 32
PAUSE_S = 0.5

T = TypeVar("T")


class Tampered(ProtocolError):
    """Sealed content was changed, moved to another place, or sealed under another key than it names."""


class UnknownKey(ProtocolError):
    """No key of the tenant has this id: it was never made, or is another tenant's."""

    def __init__(self, tenant: str, id: str) -> None:
        super().__init__(f"The tenant {tenant} has no data key {id}.", hint="milepost doctor; was the database restored?")


class Erased(Permanent):
    """The data key was destroyed on request, and with it whatever it sealed."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The content of {what} was erased on request.",
            why="the data key of its user was destroyed; nobody can read it any more",
            hint="milepost runs show tells that it took place",
        )


@dataclass(frozen=True, slots=True)
class DataKey:
    """The key of one person's content. secret: 32 bytes; None when it was destroyed."""

    id: str
    secret: bytes | None = field(repr=False)


class Keyring(Protocol):
    """Where a process gets data keys from."""

    async def key_of(self, tenant: str, user: str) -> DataKey:
        """The key that new runs of a user are sealed under, made if there is none. Raises Unreachable, BeingForgotten."""
        ...

    async def key(self, tenant: str, id: str) -> DataKey:
        """A key by its id. Raises Unreachable, UnknownKey."""
        ...


# --- pure -----------------------------------------------------------------------------------------


def run_key(secret: bytes, run: RunId) -> bytes:
    """The key of one run [32 bytes]."""
    return hmac.digest(secret, b"milepost run " + run.encode() + b"\x01", "sha256")


def seal(message: Fact | Order, key: bytes, nonce: bytes) -> Envelope[Sealed]:
    """The message with its content sealed under its run's key. nonce: 12 bytes, never twice under one key.

    Raises ProtocolError for content that a reader would refuse.
    """
    sealed = AESGCM(key).encrypt(nonce, encode_content(message), message.id.encode())
    header = message.header.model_copy(update={"datacontenttype": SEALED})
    return Envelope(header, Sealed(nonce=_text(nonce), ciphertext=_text(sealed)))


def unseal(message: Envelope[Sealed], key: bytes) -> Fact | Order:
    """The message as it was before it was sealed. Raises Tampered, and ProtocolError for content that is malformed."""
    try:
        nonce, sealed = _bytes(message.body.nonce), _bytes(message.body.ciphertext)
        content = AESGCM(key).decrypt(nonce, sealed, message.id.encode())
    except (InvalidTag, ValueError) as error:
        raise Tampered(
            f"The sealed content of {message.id} is not what was sealed there.",
            why="it was changed, moved, or sealed under another key",
        ) from error
    return decode_content(message.header.model_copy(update={"datacontenttype": PLAIN}), content)


def _text(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode()


def _bytes(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


async def in_time(work: Callable[[], Awaitable[T]]) -> T:
    """Wait for as long as the keys are away: a reader in order may not pass over anything."""
    while True:
        try:
            return await work()
        except Unreachable:
            await asyncio.sleep(PAUSE_S)


# --- with a keyring -------------------------------------------------------------------------------


class Sealing:
    """Between a process and what is stored: seals messages whose header names a data key, and opens them again.

    A fact whose key was destroyed stays sealed: its header can be read, its body is Sealed. seal_new: a run that is
    requested in the clear gets the data key of its user; whoever answers or decides in it takes the name over.
    """

    def __init__(self, keyring: Keyring | None = None, *, seal_new: bool = False) -> None:
        self._keyring, self._seal_new = keyring, seal_new

    async def sealed(self, message: Fact | Order) -> Fact | Order | Envelope[Sealed]:
        """The message as it is to be stored. Raises Unreachable, Erased, BeingForgotten, UnknownKey, ProtocolError."""
        if self._keyring and self._seal_new and isinstance(message.body, RunRequested) and message.header.datakey is None:
            key_of_user = await self._keyring.key_of(message.tenant, message.body.user)
            message = replace(message, header=message.header.model_copy(update={"datakey": key_of_user.id}))
        if message.header.datakey is None:
            return message
        key = await self._key(message)
        if key is None:
            raise Erased(f"run {message.run}")
        return seal(message, key, secrets.token_bytes(NONCE_BYTES))

    async def fact(self, stored: Envelope[Sealed] | Fact | Order) -> Fact:
        """A stored fact, opened unless its key was destroyed. Raises Unreachable, UnknownKey, Tampered, ProtocolError."""
        fact = checked_fact(stored)
        return checked_fact(await self._opened(fact)) if isinstance(fact.body, Sealed) else fact

    async def order(self, stored: Envelope[Sealed] | Fact | Order) -> Order:
        """A stored command, opened. Raises Erased, and what `fact` raises."""
        order = await self._opened(stored) if isinstance(stored.body, Sealed) else stored
        if isinstance(order.body, Sealed):
            raise Erased(f"run {stored.run}")
        return checked_order(order)

    async def _opened(self, stored: Envelope[Sealed] | Fact | Order) -> Fact | Order | Envelope[Sealed]:
        key = await self._key(stored)
        return stored if key is None else unseal(stored, key)  # type: ignore[arg-type]  # only sealed ones come here

    async def _key(self, message: Envelope[Sealed] | Fact | Order) -> bytes | None:
        id = message.header.datakey
        if self._keyring is None or id is None:
            raise Permanent("This process has no keys, and the message is sealed.", why=f"data key {id}")
        secret = (await self._keyring.key(message.tenant, id)).secret
        return None if secret is None else run_key(secret, message.run)
