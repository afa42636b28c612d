"""Names and derived ids: equal requests get equal ids, so a retry can be recognised anywhere."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from functools import lru_cache
from typing import Annotated, NewType

from pydantic import StringConstraints

from schemas.canonical import ID_LENGTH, canonical, digest
from schemas.errors import ProtocolError

RunId = NewType("RunId", str)
EventId = NewType("EventId", str)
CommandId = NewType("CommandId", str)

TOKEN = r"^[A-Za-z0-9_-]{1,64}$"
_TOKEN = re.compile(TOKEN)
_RUN = re.compile(r"^[0-9]{6}-[0-9a-f]{32}$")

Token = Annotated[str, StringConstraints(pattern=TOKEN)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]

PARTITIONS = 16

REQUEST_SLOT = "request"
CANCEL_SLOT = "cancel"
END_SLOT = "end"
RELEASE_SLOT = "release"
SEAL_SLOT = "seal"


def checked_token(value: str, what: str = "name") -> str:
    """The value, if it may stand as one token of a subject; ProtocolError if not."""
    if not _TOKEN.match(value) or value.endswith("\n"):
        raise ProtocolError(
            f"{value!r} is no valid {what}.",
            why="only A-Z a-z 0-9 _ - and at most 64 characters may stand in a subject",
            hint=f"give a {what} of such characters",
        )
    return value


def segment_of(moment: datetime) -> str:
    """The segment (UTC month) in which a run that begins at that moment lives."""
    return moment.strftime("%Y%m")


def run_id(tenant: str, key: str, segment: str) -> RunId:
    """The run a tenant's idempotency key names in a segment; the same key gives the same run."""
    return RunId(f"{segment}-{digest('run', tenant, key)}")


def checked_run(value: str) -> RunId:
    """The value as a run id; ProtocolError if it has not the form YYYYMM-<32 hex digits>."""
    if not _RUN.match(value) or value.endswith("\n"):
        raise ProtocolError(f"{value!r} is no run id.", why="a run id is YYYYMM-<32 hex digits>", hint="milepost runs ls")
    return RunId(value)


def segment_of_run(run: RunId) -> str:
    """The segment that a run id carries."""
    return run[:6]


def partition_of(run: RunId) -> int:
    """The partition of a run, 0 to 15: locality only, never correctness."""
    return int(run[7:11], 16) % PARTITIONS


def settled_slot(command: str) -> str:
    """Where it is told what became of a call that was in doubt."""
    return f"{command}-settled"


def seal_slot(part: int) -> str:
    """Where the recorder seals a run: once when it ends, and once more for each amendment."""
    return SEAL_SLOT if part == 1 else f"{SEAL_SLOT}-{part}"


def event_id(run: RunId, tenant: str, role: str, slot: str) -> EventId:
    """The id of the one event that can ever stand in this place: all that its subject says."""
    sha, last = _before_slot(run, tenant, role).copy(), slot.encode()
    sha.update(len(last).to_bytes(8, "big") + last)
    return EventId(sha.hexdigest()[:ID_LENGTH])


@lru_cache(maxsize=1024)  # events of a run come one after another
def _before_slot(run: str, tenant: str, role: str) -> hashlib._Hash:
    """What `digest` has come to before the last of its parts, to be copied."""
    parts = [part.encode() for part in ("event", run, tenant, role)]
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts))


def command_id(run: RunId, cause: EventId, command: object) -> CommandId:
    """The id of the command that an event causes, over the command's canonical JSON."""
    return CommandId(digest("command", run, cause, canonical(command)))
