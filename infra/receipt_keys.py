"""The keys behind receipts: the recorder's private one, all public ones that ever were, and how each led to the next.

The private key stands in `recorder.key` of the data directory (0600). `recorder.pub` beside it is for everybody: the public
keys from the first one on, each with the moment since when it signs, and what every key but the first was endorsed with by the
one before it. None is ever taken out: what it has signed stays signed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from infra.key_file import KeyFile, new_key
from infra.processes import write_private
from infra.settings import Settings
from runtime.errors import Permanent
from runtime.receipts import PURPOSE, endorsement_of
from runtime.signing import KeyPair, public_key
from schemas.receipts import Endorsement
from schemas.tools import Value

FILE = "recorder.key"
PUBLIC_SUFFIX = ".pub"


class ReceiptKeyError(Permanent):
    """The key that signs receipts, or one that verifies them, is missing, malformed or open to others."""


class PublicKey(Value):
    """A public key of the recorder. public: base64 of 32 bytes; since: when it began to sign."""

    key: str
    public: str
    since: datetime


class PublicKeys(Value):
    """What `recorder.pub` says: the oldest key first."""

    keys: tuple[PublicKey, ...] = ()
    endorsements: tuple[Endorsement, ...] = ()

    def by_id(self) -> dict[str, bytes]:
        """The keys' bytes by their ids. Raises ReceiptKeyError."""
        return {each.key: decoded(each.key, each.public) for each in self.keys}


class RecorderKeys:
    """runtime.receipts.ReceiptKeys of a data directory; a change of the files is seen at once, without a restart.

    given: a private key in place of the one in the file. Raises ReceiptKeyError.
    """

    def __init__(self, file: Path, given: str | None = None) -> None:
        self._file, self._given = file, given
        self._changed = (0, 0)
        self._key, self._public = self._read()
        if self._key.id not in self._public.by_id():  # at the first start, or with a key that was brought along
            self._public = _with(self._public, self._key)
            try:
                _write(file, self._public)
            except ReceiptKeyError:
                if given is None:
                    raise  # with a key of a setting, the folder may be closed; who verifies has the public half elsewhere

    def signing(self) -> KeyPair:
        self._look()
        return self._key

    def trusted(self) -> dict[str, bytes]:
        self._look()
        return {**self._public.by_id(), self._key.id: self._key.public}

    def endorsements(self) -> tuple[Endorsement, ...]:
        self._look()
        return path_to(self._key.id, self._public.endorsements)

    def public(self) -> PublicKeys:
        """All that `recorder.pub` says."""
        self._look()
        return self._public

    def _look(self) -> None:
        if self._times() != self._changed:
            self._key, self._public = self._read()

    def _read(self) -> tuple[KeyPair, PublicKeys]:
        self._changed = self._times()
        return KeyPair(_FILE.read(self._given, self._file), PURPOSE), read_public(public_file(self._file)) or PublicKeys()

    def _times(self) -> tuple[int, int]:
        return _time(self._file), _time(public_file(self._file))


def key_file(settings: Settings) -> Path:
    """Where the key that signs receipts stands if it is not given; its public halves stand beside it."""
    return settings.receipts.file or settings.home / FILE


def make_receipt_keys(file: Path) -> None:
    """Make the key pair if there is none. Raises ReceiptKeyError."""
    _FILE.make(file)


def rotate(file: Path, now: datetime | None = None) -> KeyPair:
    """Sign with a new key from now on, which the old one endorses. Raises ReceiptKeyError.

    The public file is written first, so that nobody meets a receipt whose key cannot be found.
    """
    old = RecorderKeys(file)
    text, since = new_key(), now or datetime.now(UTC)
    key = KeyPair(base64.b64decode(text), PURPOSE)
    public = _with(old.public(), key, since)
    endorsed = (*public.endorsements, endorsement_of(key, since, old.signing()))
    _write(file, public.model_copy(update={"endorsements": endorsed}))
    try:
        write_private(file, text.decode() + "\n")
    except OSError as error:
        raise _unwritten(file, error) from error
    return key


def path_to(key: str, endorsements: tuple[Endorsement, ...]) -> tuple[Endorsement, ...]:
    """The endorsements that lead from the first key to this one, in order."""
    by_key = {each.key: each for each in endorsements}
    path: list[Endorsement] = []
    while (step := by_key.pop(key, None)) is not None:
        path.insert(0, step)
        key = step.by
    return tuple(path)


def public_file(file: Path) -> Path:
    """Where the public halves stand."""
    return file.with_suffix(PUBLIC_SUFFIX)


def read_public(file: Path) -> PublicKeys | None:
    """What a file of public keys says; None if there is none. Raises ReceiptKeyError."""
    try:
        found = PublicKeys.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not what `milepost keys receipts show` tells of"
        raise ReceiptKeyError(f"{file} holds no public keys of a recorder.", why=why or "", hint="name recorder.pub") from error
    found.by_id()
    return found


def parsed(texts: list[str]) -> dict[str, bytes]:
    """Public keys as they are given by hand, ID=BASE64 each. Raises ReceiptKeyError."""
    return {id: decoded(id, text) for id, _, text in (each.strip().partition("=") for each in texts)}


def decoded(id: str, text: str) -> bytes:
    """The bytes of a public key. Raises ReceiptKeyError."""
    raw = public_key(PURPOSE, id, text)
    if raw is None:
        raise ReceiptKeyError(
            f"The public key {id[:32]} is malformed.", why="it is ID=BASE64 of 32 bytes that have this id",
            hint="milepost keys receipts show",
        )  # fmt: skip
    return raw


def shown(keys: Mapping[str, bytes]) -> list[str]:
    """Public keys as `parsed` reads them."""
    return [f"{id}={base64.b64encode(raw).decode()}" for id, raw in keys.items()]


def _with(public: PublicKeys, key: KeyPair, since: datetime | None = None) -> PublicKeys:
    since = since or datetime.now(UTC)
    own = PublicKey(key=key.id, public=base64.b64encode(key.public).decode(), since=since)
    return public.model_copy(update={"keys": (*public.keys, own)})


def _write(file: Path, public: PublicKeys) -> None:
    place = public_file(file)
    try:
        write_private(place, json.dumps(public.model_dump(mode="json"), indent=1) + "\n")
        place.chmod(0o644)
    except OSError as error:
        raise _unwritten(file, error) from error


def _unwritten(file: Path, error: OSError) -> ReceiptKeyError:
    return ReceiptKeyError(f"The keys cannot be written to {file.parent}.", why=error.strerror or str(error))


def _time(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return -1  # reading it says what is wrong


_FILE = KeyFile("key that signs receipts", "receipts.key", ReceiptKeyError)
