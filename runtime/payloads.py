"""Payloads: bytes that are too large or too binary for a fact, kept beside the log and sealed as it is.

A reference is made from the bytes under the data key of the person they are about, so equal bytes of one person are kept
once, nobody can tell from a reference whose bytes or which bytes they are, and who forgets the key forgets the bytes.

UnknownPayload   nothing is kept under this reference for this tenant
TooLarge         more bytes than one payload may have
Erased           the data key was destroyed (runtime.sealing)
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runtime.errors import Permanent
from runtime.sealing import NONCE_BYTES, Erased, Keyring, Tampered

LIMIT = 256 * 1024 * 1024
SCHEME = "payload:"
_REF = re.compile(rf"{SCHEME}([0-9a-f]{{64}})")


class UnknownPayload(Permanent):
    """Nothing is kept under this reference for this tenant."""

    def __init__(self, ref: str) -> None:
        super().__init__(
            f"There is no payload {ref[:80]}.",
            why="it was never kept, or belongs to another tenant",
            hint="milepost runs show RUN",
        )


class TooLarge(Permanent):
    """More bytes than one payload may have."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"{size:,} bytes are too many to keep.", why=f"the limit is {LIMIT:,}", hint="make it smaller, or give its address"
        )


class Payloads(Protocol):
    """Bytes by reference. Both calls raise Unreachable while the store or the keys are away."""

    async def put(self, data: bytes, *, tenant: str, datakey: str | None) -> str:
        """Keep the bytes and give their reference; they are on disk when it returns. Idempotent.

        datakey: what they are sealed under; None keeps them in the clear. Raises TooLarge, Erased, UnknownKey.
        """
        ...

    async def get(self, ref: str, *, tenant: str) -> bytes:
        """The bytes of a reference. Raises UnknownPayload, Erased, Tampered."""
        ...


@dataclass(frozen=True, slots=True)
class Blob:
    """What is stored: bytes, sealed if they have a data key."""

    data: bytes
    datakey: str | None


class Blobs(Protocol):
    """Where blobs are stored, by tenant and name. Raises Unreachable."""

    async def has(self, tenant: str, name: str) -> bool:
        """Whether there is one."""
        ...

    async def put(self, tenant: str, name: str, blob: Blob) -> None:
        """Store one, durably."""
        ...

    async def get(self, tenant: str, name: str) -> Blob | None:
        """One, whole; None if there is none."""
        ...


class MemoryBlobs:
    """Blobs in a dictionary: the twin of the JetStream adapter, with the same contract."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Blob] = {}

    async def has(self, tenant: str, name: str) -> bool:
        return (tenant, name) in self.kept

    async def put(self, tenant: str, name: str, blob: Blob) -> None:
        self.kept[tenant, name] = blob

    async def get(self, tenant: str, name: str) -> Blob | None:
        return self.kept.get((tenant, name))


class SealedPayloads:
    """Payloads over any store of blobs. keyring: None for a process that keeps nothing sealed."""

    def __init__(self, blobs: Blobs, keyring: Keyring | None = None) -> None:
        self._blobs, self._keyring = blobs, keyring

    async def put(self, data: bytes, *, tenant: str, datakey: str | None) -> str:
        if len(data) > LIMIT:
            raise TooLarge(len(data))
        if datakey is None:
            name = await asyncio.to_thread(_plain_name, tenant, data)
            return await self._stored(tenant, name, Blob(data, None))
        secret = await self._secret(tenant, datakey, "what this payload is about")
        name = await asyncio.to_thread(_name, secret, data)
        return await self._stored(tenant, name, Blob(data, datakey), _key(secret, name))

    async def get(self, ref: str, *, tenant: str) -> bytes:
        name = name_of(ref)
        blob = await self._blobs.get(tenant, name)
        if blob is None:
            raise UnknownPayload(ref)
        if blob.datakey is None:
            return blob.data
        secret = await self._secret(tenant, blob.datakey, ref)
        return await asyncio.to_thread(_unsealed, blob.data, _key(secret, name), tenant, ref)

    async def _stored(self, tenant: str, name: str, blob: Blob, key: bytes | None = None) -> str:
        if not await self._blobs.has(tenant, name):
            if key is not None:
                blob = Blob(await asyncio.to_thread(_sealed, blob.data, key, tenant, name), blob.datakey)
            await self._blobs.put(tenant, name, blob)
        return SCHEME + name

    async def _secret(self, tenant: str, datakey: str, what: str) -> bytes:
        if self._keyring is None:
            raise Permanent("This process has no keys, and the payload is sealed.", why=f"data key {datakey}")
        secret = (await self._keyring.key(tenant, datakey)).secret
        if secret is None:
            raise Erased(what)
        return secret


def memory_payloads(keyring: Keyring | None = None) -> SealedPayloads:
    """Payloads of one process, gone with it."""
    return SealedPayloads(MemoryBlobs(), keyring)


def is_ref(text: object) -> bool:
    """Whether this names a payload."""
    return isinstance(text, str) and _REF.fullmatch(text) is not None


def name_of(ref: str) -> str:
    """The blob that a reference names. Raises UnknownPayload for what is none."""
    found = _REF.fullmatch(ref)
    if found is None:
        raise UnknownPayload(ref)
    return found[1]


def _plain_name(tenant: str, data: bytes) -> str:
    sha = hashlib.sha256(f"{tenant}\0".encode())
    sha.update(data)
    return sha.hexdigest()


def _name(secret: bytes, data: bytes) -> str:
    """Keyed, so that who does not have the key cannot find out by trying whether certain bytes are kept."""
    return hmac.digest(hmac.digest(secret, b"milepost payload name\x01", "sha256"), data, "sha256").hex()


def _key(secret: bytes, name: str) -> bytes:
    """Each payload has a key of its own (HKDF-Expand, as runtime.sealing.run_key) [32 bytes]."""
    return hmac.digest(secret, b"milepost payload " + name.encode() + b"\x01", "sha256")


def _sealed(data: bytes, key: bytes, tenant: str, name: str) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data, _place(tenant, name))


def _unsealed(sealed: bytes, key: bytes, tenant: str, ref: str) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _place(tenant, name_of(ref)))
    except (InvalidTag, ValueError) as error:
        raise Tampered(f"The bytes of {ref} are not what was kept there.", why="they were changed or moved") from error


def _place(tenant: str, name: str) -> bytes:
    return f"{tenant}/{name}".encode()
