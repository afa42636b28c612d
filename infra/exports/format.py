"""The format of an export: what its lines are, in which order, and how long each may be. docs/exports.md tells it in full.

Version 1 is a header and the events; version 2 the same with sealed events and the key that opens them; version 3 ends
with payloads, schemas and a checksum, so that any damage is found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ConfigDict, Field

from runtime.payloads import LIMIT
from schemas.envelope import MAX_BYTES
from schemas.errors import MilepostError, ProtocolError
from schemas.receipts import HASH
from schemas.tools import Value

FORMAT = "milepost-run"
VERSION = 3
SUMMED = 3
"""The first version whose last line is a checksum."""

HEADER_BYTES = 4096
PAYLOAD_HEAD_BYTES = 4096
MESSAGE_BYTES = MAX_BYTES // 3 * 4 + 1024
"""A line with a message in base64, and the subject that it stood under."""

SCHEMAS = b'{"schemas":'
PAYLOAD = b'{"payload":'
WRAPPED = b'{"message":'
SUM = b'{"sha256":"%s"}\n'


class BadExport(ProtocolError):
    """A file is no whole export of a run. line: where, from 1; 0 when it is not about one line."""

    def __init__(self, path: Path, why: str, *, line: int = 0, hint: str = "") -> None:
        place = f"line {line}: " if line else ""
        hint = hint or "export it again: milepost runs export RUN FILE"
        super().__init__(f"{path} is no export of a run that can be read.", why=place + why, hint=hint)
        self.line = line


class CannotWrite(MilepostError):
    """The file that should hold an export cannot be written."""


class ExportHeader(Value):
    """The first line. created: when the export was made; events: how many lines of events follow, so that none can be missing.

    key: of this run alone, base64; there if events are sealed and were not erased.
    """

    format: Literal["milepost-run"]
    version: int = Field(ge=1)
    run: str = Field(pattern=r"^[0-9]{6}-[0-9a-f]{32}$")
    created: AwareDatetime
    events: int = Field(ge=1)
    key: str | None = None
    payloads: int = Field(default=0, ge=0)


class SummedHeader(ExportHeader):
    """The first line from version 3 on, with nothing else in it. payloads: how many lines of payloads follow the events."""

    model_config = ConfigDict(extra="forbid")

    payloads: int = Field(ge=0)


class WrappedLine(Value):
    """A message of the run that is no line of JSON or no event, in base64. subject: under which it stands in the log."""

    model_config = ConfigDict(extra="forbid")

    message: str
    subject: str = Field(max_length=512)


class PayloadLine(Value):
    """The bytes that results refer to. bytes: how many; sha256: over them; data: base64, the last field of the line."""

    model_config = ConfigDict(extra="forbid", strict=True)

    payload: str
    media_type: str | None = Field(max_length=256)
    bytes: int = Field(ge=0, le=LIMIT)
    sha256: str = Field(pattern=HASH)


class MissingLine(Value):
    """Bytes that results refer to and that are not in the file. missing: why."""

    model_config = ConfigDict(extra="forbid", strict=True)

    payload: str
    missing: str = Field(max_length=1024)
