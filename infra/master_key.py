"""The master key: it wraps the data keys, so that who has only the database has none of them."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runtime.errors import Permanent
from runtime.sealing import KEY_BYTES, NONCE_BYTES

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
    if given is not None:
        return MasterKey(_read(given, "keys.master"))
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        text = file.read_text()
    except OSError as error:
        raise MasterKeyError(
            "There is no master key.", why=f"{file}: {error.strerror}",
            hint="set MILEPOST_KEYS_MASTER, or name the file with MILEPOST_KEYS_FILE",
        ) from error  # fmt: skip
    if mode & 0o077:
        raise MasterKeyError(f"Others may read the master key in {file}.", why=f"mode {mode:o}", hint=f"chmod 600 {file}")
    return MasterKey(_read(text.strip(), str(file)))


def make_master_key(file: Path) -> None:
    """Make the file with a new key if there is none; of several that try at once one wins. Raises MasterKeyError."""
    if file.exists():
        return
    scratch = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            out.flush()
            os.fsync(out.fileno())  # what it wraps is of no use without it
        try:
            os.link(scratch, file)
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    except OSError as error:
        raise MasterKeyError(f"The master key cannot be written to {file}.", why=error.strerror or str(error)) from error


def _read(text: str, where: str) -> bytes:
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != KEY_BYTES:
        raise MasterKeyError(
            f"The master key in {where} is malformed.", why=f"it is {KEY_BYTES} bytes in base64",
            hint="head -c 32 /dev/urandom | base64",
        )  # fmt: skip
    return secret
