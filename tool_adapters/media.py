"""What a tool may give back beside text and JSON: images, sounds, films, files and tables."""

from __future__ import annotations

import io
import math
import mimetypes
import re
import struct
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol, TypeGuard, TypeVar, runtime_checkable

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from schemas.tools import PartKind
from tool_adapters.tool import InvalidResult, InvalidTool

M = TypeVar("M", bound="Media")

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w.+-]*/[\w.+-]+(; ?[\w.+-]+=[\w.+\"-]+)*")

MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"), (0, b"\xff\xd8\xff", "image/jpeg"), (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"), (0, b"BM", "image/bmp"), (8, b"WAVE", "audio/wav"), (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"), (0, b"fLaC", "audio/flac"), (0, b"OggS", "audio/ogg"), (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"), (0, b"%PDF-", "application/pdf"), (0, b"PK\x03\x04", "application/zip"),
)  # fmt: skip
"""Where in its first bytes a format says what it is."""

JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG that tell height and width (ITU T.81, table B.1)."""


@runtime_checkable
class Picture(Protocol):
    """Whatever can save itself as PNG: an image of Pillow, by its shape."""

    @property
    def mode(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def save(self, to: io.BytesIO, /, format: str) -> object: ...


class Frame(Protocol):
    """A table of pandas or polars, as far as we read it."""

    @property
    def columns(self) -> Iterable[str]: ...

    def rows(self) -> Iterable[Sequence[object]]: ...


class Media:
    """Bytes with a kind, a media type and perhaps a name.

    content: the bytes, or the path of a file that has them. media_type: told by the bytes or the name if not given.
    As a parameter of a tool it takes the reference of an earlier result (`payload:...`), which is read before the call.
    """

    kind: ClassVar[PartKind] = "file"
    unknown: ClassVar[str] = "application/octet-stream"

    def __init__(
        self, content: bytes | str | Path | Picture, *, media_type: str | None = None, name: str | None = None
    ) -> None:
        if isinstance(content, Picture):
            content, media_type = _png(content), "image/png"
        if not isinstance(content, bytes | bytearray | memoryview | str | Path):
            raise InvalidTool(f"{type(self).__name__} takes bytes or a path.", why=f"it was given a {type(content).__name__}")
        if media_type is not None and not _MEDIA_TYPE.fullmatch(media_type):
            raise InvalidTool(f"{media_type[:80]!r} is no media type.", hint='such as "image/png"')
        self._content = Path(content) if isinstance(content, str | Path) else bytes(content)
        self._media_type = media_type
        self.name = name or (self._content.name if isinstance(self._content, Path) else None)

    @cached_property
    def data(self) -> bytes:
        """The bytes; a file is read now. Raises InvalidResult when it cannot be."""
        if isinstance(self._content, bytes):
            return self._content
        try:
            return self._content.read_bytes()
        except OSError as error:
            raise InvalidResult(f"{self._content} cannot be read.", why=str(error)) from error

    @property
    def media_type(self) -> str:
        """What kind of bytes: as given, or as their beginning or their name tells."""
        guessed = mimetypes.guess_type(self.name)[0] if self.name else None
        return self._media_type or sniffed(self.data) or guessed or self.unknown

    @cached_property
    def path(self) -> Path:
        """A file with these bytes; a temporary one for those that came without."""
        if isinstance(self._content, Path):
            return self._content
        folder = Path(tempfile.mkdtemp(prefix="milepost-"))
        ending = mimetypes.guess_extension(self.media_type.partition(";")[0]) or ""
        path = folder / Path(self.name or f"{self.kind}{ending}").name
        path.write_bytes(self._content)
        return path

    def described(self) -> str:
        """A few words for the model: `an image, PNG 1024x768, 340 KB`."""
        article = "an" if self.kind[0] in "aeiou" else "a"
        form = self.media_type.partition(";")[0].rpartition("/")[2].removeprefix("x-").upper()
        size = size_of(self.data) if self.kind == "image" else None
        shape = f" {size[0]}x{size[1]}" if size else ""
        named = f" {self.name}," if self.name else ""
        return f"{article} {self.kind},{named} {form}{shape}, {amount(len(self.data))}"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Media) and self.data == other.data

    def __hash__(self) -> int:
        return hash((type(self), self.data))

    def __repr__(self) -> str:
        content = self._content.name if isinstance(self._content, Path) else amount(len(self._content))
        return f"{type(self).__name__}({content})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As an argument: one of us, made from a reference before the arguments are read."""
        return core_schema.no_info_plain_validator_function(cls._taken)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": "^payload:[0-9a-f]{64}$"}

    @classmethod
    def _taken(cls: type[M], value: object) -> M:
        if isinstance(value, cls):
            return value
        if cls is File and isinstance(value, Media):
            return cls(value.data, media_type=value.media_type, name=value.name)  # any bytes are a file
        raise ValueError(f"it takes the reference of {cls.kind} bytes, payload:..., as an earlier result named it")


class Image(Media):
    """A picture. content may also be a Pillow image, which becomes PNG."""

    kind = "image"
    unknown = "image/png"


class Audio(Media):
    """A sound."""

    kind = "audio"
    unknown = "audio/wav"


class Video(Media):
    """A film."""

    kind = "video"
    unknown = "video/mp4"


class File(Media):
    """Any other bytes."""


class Table:
    """Rows of cells under columns; cells become plain JSON. Raises InvalidTool when a row has other cells than columns."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        self.columns = [str(column) for column in columns]
        self.rows = [[_cell(cell) for cell in row] for row in rows]
        for row in self.rows:
            if len(row) != len(self.columns):
                raise InvalidTool(f"A row has {len(row)} cells, and there are {len(self.columns)} columns.")

    @classmethod
    def of(cls, value: object) -> Table:
        """A table of dictionaries (columns in the order in which they first come), or of a pandas or polars DataFrame."""
        if is_frame(value):
            return cls(list(value.columns), _rows(value))
        if not isinstance(value, Sequence) or not all(isinstance(row, Mapping) for row in value):
            raise InvalidTool(
                "A table is made of dictionaries or of a DataFrame.", why=f"it was given a {type(value).__name__}"
            )
        columns = list(dict.fromkeys(key for row in value for key in row))
        return cls(columns, ([row.get(column) for column in columns] for row in value))

    def as_json(self) -> dict[str, object]:
        """{"columns": [...], "rows": [[...], ...]}"""
        return {"columns": self.columns, "rows": self.rows}

    def as_text(self, rows: int) -> str:
        """Its first rows as the model reads it, cells parted by ` | `."""
        lines = [" | ".join(self.columns), *(" | ".join(map(_text, row)) for row in self.rows[:rows])]
        if len(self.rows) > rows:
            lines.append(f"... {len(self.rows) - rows} more rows")
        return "\n".join(lines)

    def as_csv(self) -> bytes:
        """All of it, as CSV with a header (RFC 4180), UTF-8."""
        import csv

        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerow(self.columns)
        writer.writerows([_text(cell) for cell in row] for row in self.rows)
        return out.getvalue().encode()


def is_frame(value: object) -> TypeGuard[Frame]:
    """A DataFrame of pandas or polars, told by its shape."""
    return type(value).__name__ == "DataFrame" and hasattr(value, "columns")


def _rows(frame: Frame) -> Iterable[Sequence[object]]:
    tuples = getattr(frame, "itertuples", None)  # pandas
    rows: Iterable[Sequence[object]] = tuples(index=False, name=None) if tuples else frame.rows()
    return rows


def media_of(data: bytes, *, name: str | None = None) -> Media:
    """Bytes as the kind of media that they are."""
    kinds: dict[str, type[Media]] = {"image": Image, "audio": Audio, "video": Video}
    return kinds.get((sniffed(data) or "").partition("/")[0], File)(data, name=name)


def sniffed(data: bytes) -> str | None:
    """The media type that bytes begin like, or None."""
    for at, magic, media_type in MAGIC:
        if data[at : at + len(magic)] == magic:
            return media_type
    return None


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, GIF or JPEG, in pixels; None for anything else, or what is broken."""
    try:
        match sniffed(data):
            case "image/png":
                return struct.unpack(">II", data[16:24])
            case "image/gif":
                return struct.unpack("<HH", data[6:10])
            case "image/jpeg":
                return _size_of_jpeg(data)
    except struct.error:
        pass
    return None


def amount(size: int) -> str:
    """Bytes as a person says them."""
    for unit, many in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= many:
            return f"{size / many:.3g} {unit}" if size < 100 * many else f"{size / many:.0f} {unit}"
    return f"{size} bytes"


def _size_of_jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None


def _png(picture: Picture) -> bytes:
    out = io.BytesIO()
    if picture.mode in ("CMYK", "YCbCr", "HSV", "LAB", "F"):  # which PNG does not have
        picture = picture.convert("RGB")  # type: ignore[attr-defined]  # Pillow has it
    picture.save(out, format="PNG")
    return out.getvalue()


def _cell(value: object) -> object:
    """A cell as plain JSON: what has no JSON form becomes text, what is not a number becomes null."""
    item = getattr(value, "item", None)
    if callable(item) and type(value).__module__ == "numpy":
        value = item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)


def _text(cell: object) -> str:
    return "" if cell is None else str(cell)
