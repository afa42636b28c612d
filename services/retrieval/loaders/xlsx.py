"""Excel workbooks: a line a row that names its columns; sheets and row numbers are the headings."""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Iterator
from pathlib import Path

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from services.retrieval.documents import Extracted, UnreadableDocument
from services.retrieval.loaders.archive import check_archive
from services.retrieval.loaders.rows import Table
from services.retrieval.loaders.written import Written

XML_LIMIT = 256 * 1024 * 1024  # read row by row


def load(path: Path, name: str) -> Extracted:
    """The values of all sheets, as they were last calculated. Raises UnreadableDocument."""
    check_archive(path, XML_LIMIT)
    try:
        return _read(path)
    except (
        KeyError,
        ValueError,
        TypeError,
        OSError,
        SyntaxError,
        zipfile.BadZipFile,
        InvalidFileException,
    ) as error:
        raise UnreadableDocument("It is broken.", why=f"{type(error).__name__}: {error}"[:200]) from error


def _read(path: Path) -> Extracted:
    book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
    written = Written()
    for sheet in book.worksheets:
        written.heading(1, sheet.title)
        table = Table.headed(_cells(sheet.iter_rows(values_only=True)))
        begun = written.length
        for number, line in table.lines():
            written.heading(2, f"row {number}")
            written.line(line)
        if written.length == begun and table.header:
            written.line(" | ".join(filter(None, table.header)))
    return written.document(str(book.properties.title or ""))


def _cells(rows: Iterator[tuple[object, ...]]) -> Iterator[list[str]]:
    for row in rows:
        yield [_said(value) for value in row]


def _said(value: object) -> str:
    match value:
        case None:
            return ""
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case dt.datetime() if value.time() == dt.time():
            return value.date().isoformat()
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat(*([" "] if isinstance(value, dt.datetime) else []))
        case _:
            return str(value)
