"""The keys behind capabilities: the conductor's private one, and the public ones that hosts of tools trust.

The private key stands in `capability.key` of the data directory (0600); the public halves, of it and of those before it
that are still good, in `capability.pub` beside it: {"keys": {ID: BASE64}}.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path

from infra.key_file import KEY_BYTES, KeyFile, new_key
from infra.processes import write_private
from runtime.capability import SigningKey, key_id
from runtime.errors import Permanent

FILE = "capability.key"
PUBLIC_SUFFIX = ".pub"
KEPT = 3


class CapabilityKeyError(Permanent):
    """The key that signs capabilities, or one that verifies them, is missing, malformed or open to others."""


class GivenKey:
    """A private key that was given as text, in place of the file."""

    def __init__(self, text: str) -> None:
        self._key = SigningKey(_FILE.read(text, Path()))

    def signing(self) -> SigningKey:
        return self._key

    def trusted(self) -> dict[str, bytes]:
        return {self._key.id: self._key.public}


class KeysInFiles:
    """The keys of a data directory; a change of the files is seen at once, without a restart."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = 0
        self._key = self.signing()

    def signing(self) -> SigningKey:
        """The key that signs now. Raises CapabilityKeyError."""
        try:
            changed = self._file.stat().st_mtime_ns
        except OSError:
            changed = -1  # reading it says what is wrong
        if changed != self._seen:
            self._key = SigningKey(_FILE.read(None, self._file))
            self._seen = changed
        return self._key

    def trusted(self) -> dict[str, bytes]:
        """The public halves by id, the one that signs among them. Raises CapabilityKeyError."""
        key = self.signing()
        return {key.id: key.public, **(read_public(public_file(self._file)) or {})}


def make_capability_keys(file: Path) -> None:
    """Make the key pair if there is none. Raises CapabilityKeyError."""
    _FILE.make(file)
    if not public_file(file).exists():
        _write_public(file, KeysInFiles(file).trusted())


def publish(file: Path, key: SigningKey) -> None:
    """See to it that hosts of this data directory, if there is one, find the key that signs, wherever it came from."""
    known = read_public(public_file(file))
    if file.parent.is_dir() and key.id not in (known or {}):
        _write_public(file, {key.id: key.public, **dict([*(known or {}).items()][: KEPT - 1])})


def rotate(file: Path, *, withdraw: bool = False) -> SigningKey:
    """Sign with a new key from now on. withdraw: what the old ones have signed is not trusted any more.

    The public file is written first, so that no host meets a key that it cannot find. Raises CapabilityKeyError.
    """
    before = KeysInFiles(file).trusted()
    text = new_key()
    key = SigningKey(base64.b64decode(text))
    newest = [*before.items()][: KEPT - 1]
    try:
        _write_public(file, {key.id: key.public, **dict(newest)})
        write_private(file, text.decode() + "\n")
        if withdraw:
            _write_public(file, {key.id: key.public})
    except OSError as error:
        raise CapabilityKeyError(f"The keys cannot be written to {file.parent}.", why=error.strerror or str(error)) from error
    return key


def public_file(file: Path) -> Path:
    """Where the public halves stand."""
    return file.with_suffix(PUBLIC_SUFFIX)


def read_public(file: Path) -> dict[str, bytes] | None:
    """The public keys in the file by id, newest first; None if there is no file. Raises CapabilityKeyError."""
    try:
        told: dict[str, str] = dict(json.loads(file.read_text())["keys"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CapabilityKeyError(f"{file} cannot be read.", why=str(error), hint="milepost keys capability rotate") from error
    return decoded(told, str(file))


def parsed(text: str) -> dict[str, bytes]:
    """Public keys as a setting names them: ID=BASE64, separated by commas. Raises CapabilityKeyError."""
    return decoded(dict(each.strip().partition("=")[::2] for each in text.split(",") if each.strip()), "capability.keys")


def decoded(told: Mapping[str, str], where: str) -> dict[str, bytes]:
    """Public keys by id from their base64; each has the id that its bytes give it. Raises CapabilityKeyError."""
    found: dict[str, bytes] = {}
    for id, text in told.items():
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError, TypeError):
            raw = b""
        if len(raw) != KEY_BYTES or key_id(raw) != id:
            raise CapabilityKeyError(
                f"The public key {id[:32]} in {where} is malformed.", why="it is ID=BASE64 of 32 bytes that have this id",
                hint="milepost keys capability show",
            )  # fmt: skip
        found[id] = raw
    return found


def shown(keys: Mapping[str, bytes]) -> str:
    """Public keys as `parsed` reads them."""
    return ",".join(f"{id}={base64.b64encode(raw).decode()}" for id, raw in keys.items())


def _write_public(file: Path, keys: Mapping[str, bytes]) -> None:
    told = {id: base64.b64encode(raw).decode() for id, raw in keys.items()}
    write_private(public_file(file), json.dumps({"keys": told}, indent=1) + "\n")


_FILE = KeyFile("key that signs capabilities", "capability.key", CapabilityKeyError)
