"""The master key: it wraps the data keys, so that who has only the database has none of them."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infra.key_file import KeyFile
from runtime.errors import Permanent
from runtime.sealing import NONCE_BYTES

FILE = "master.key"


class MasterKeyError(Permanent):
    """The master key is missing, malformed, open to others, or not the one that wrapped a data key."""


class MasterKey:
    """32 bytes; each tenant's keys are wrapped under a key derived from it (HKDF-Expand), the key's id bound to each."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def wrap(self, tenant: str, id: str, secret: bytes) -> bytes:
        """A data key as it may lie in a database."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._of(tenant).encrypt(nonce, secret, id.encode())

    def unwrap(self, tenant: str, id: str, wrapped: bytes) -> bytes:
        """The data key again. Raises MasterKeyError."""
        try:
            return self._of(tenant).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], id.encode())
        except (InvalidTag, ValueError) as error:
            raise MasterKeyError(
                f"The data key {id} cannot be unwrapped.", why="it was wrapped under another master key, or changed",
                hint="start with the master key that this database was begun with",
            ) from error  # fmt: skip

    def _of(self, tenant: str) -> AESGCM:
        return AESGCM(hmac.digest(self._secret, b"milepost tenant " + tenant.encode() + b"\x01", "sha256"))


def master_key(given: str | None, file: Path) -> MasterKey:
    """The master key that was given (base64), or that stands in the file. Raises MasterKeyError."""
    return MasterKey(_FILE.read(given, file))


def make_master_key(file: Path) -> None:
    """Make the file with a new key if there is none; of several that try at once one wins. Raises MasterKeyError."""
    _FILE.make(file)


_FILE = KeyFile("master key", "keys.master", MasterKeyError)
