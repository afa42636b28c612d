"""Word documents: mammoth makes HTML of them, which is read as any other page."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.parsers.expat import ExpatError

import mammoth

from services.retrieval.documents import Extracted, UnreadableDocument
from services.retrieval.loaders.archive import check_archive
from services.retrieval.loaders.html import read_html

XML_LIMIT = 48 * 1024 * 1024  # mammoth keeps it in memory as a tree, of some twenty times the size


def load(path: Path, name: str) -> Extracted:
    """Headings, paragraphs, lists, tables and notes; no pictures. Raises UnreadableDocument."""
    check_archive(path, XML_LIMIT)
    try:
        with path.open("rb") as file:
            page = mammoth.convert_to_html(file, convert_image=mammoth.images.img_element(lambda _: {})).value
    except (KeyError, ValueError, OSError, ExpatError, zipfile.BadZipFile, AttributeError, IndexError, RecursionError) as error:
        raise UnreadableDocument("It is broken.", why=f"{type(error).__name__}: {error}"[:200]) from error
    return read_html(page)
