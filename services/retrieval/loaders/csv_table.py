"""CSV and TSV: a line a row that names its columns, and the row's number as heading."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePath

from services.retrieval.documents import Extracted, UnreadableDocument
from services.retrieval.loaders.encoding import read_text
from services.retrieval.loaders.rows import Table
from services.retrieval.loaders.written import Written

_SAMPLE = 65_536
_DELIMITERS = ",;\t|"


def load(path: Path, name: str) -> Extracted:
    """The rows under the names of the first one. Raises UnreadableDocument."""
    text = read_text(path)
    written = Written()
    try:
        table = Table.headed(csv.reader(io.StringIO(text, newline=""), _dialect(text, name)))
        for number, line in table.lines():
            written.heading(2, f"row {number}")
            written.line(line)
    except csv.Error as error:
        raise UnreadableDocument("It is no table.", why=str(error)) from error
    if not written.length:
        written.line(" | ".join(filter(None, table.header)))
    return written.document()


def _dialect(text: str, name: str) -> type[csv.Dialect]:
    if PurePath(name).suffix.lower() == ".tsv":
        return csv.excel_tab
    try:
        return csv.Sniffer().sniff(text[:_SAMPLE].rpartition("\n")[0] or text[:_SAMPLE], _DELIMITERS)
    except csv.Error:
        return csv.excel
