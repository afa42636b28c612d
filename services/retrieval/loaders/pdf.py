"""PDF: the text of each page, with page numbers; the outline's entries are the headings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import DependencyError, PdfReadError, PyPdfError
from pypdf.generic import Destination

from services.retrieval.documents import Extracted, UnreadableDocument
from services.retrieval.loaders.written import Written

PAGES_LIMIT = 10_000
_DEEPEST = 6

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells each thing that it repairs


def load(path: Path, name: str) -> Extracted:
    """The text of all pages; empty for pages that are pictures. Raises UnreadableDocument."""
    try:
        return _read(PdfReader(path))
    except UnreadableDocument:
        raise
    except DependencyError as error:
        raise UnreadableDocument("It is encrypted in a way that cannot be read here.", why=str(error)[:200]) from error
    except (PyPdfError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OSError) as error:
        raise UnreadableDocument("It is broken.", why=f"{type(error).__name__}: {error}"[:200]) from error


def _read(reader: PdfReader) -> Extracted:
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableDocument("It is encrypted with a password.", hint="save it without one")
    if (pages := len(reader.pages)) > PAGES_LIMIT:
        raise UnreadableDocument(f"It has {pages} pages.", why=f"the limit is {PAGES_LIMIT}", hint="split it")
    written, outline = Written(), _outline(reader)
    for number, page in enumerate(reader.pages):
        written.page()
        for level, heading in outline.get(number, ()):
            written.heading(level, heading)
        text = page.extract_text().strip()
        if text:
            written.line(text + "\n")
    return written.document(_title(reader))


def _title(reader: PdfReader) -> str:
    """The title that it was given; not one that a program made of a file's name."""
    title = " ".join(str((reader.metadata and reader.metadata.title) or "").split())
    return "" if title.lower().endswith((".doc", ".docx", ".indd", ".tex", ".dvi", ".pdf")) else title


def _outline(reader: PdfReader) -> dict[int, list[tuple[int, str]]]:
    """Level and title of the outline's entries by the page that they lead to; none where the outline is broken."""
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        for level, entry in _entries(reader.outline, 1):
            page = reader.get_destination_page_number(entry)
            if page is not None:
                found.setdefault(page, []).append((level, " ".join(str(entry.title or "").split())))
    except (PdfReadError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return found


def _entries(outline: Sequence[object], level: int) -> Iterator[tuple[int, Destination]]:
    for entry in outline:
        if isinstance(entry, list):
            yield from _entries(entry, min(_DEEPEST, level + 1))
        elif isinstance(entry, Destination):
            yield level, entry
