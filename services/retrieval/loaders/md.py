"""Markdown: as it stands, so that offsets are those of the file."""

from __future__ import annotations

from pathlib import Path

from services.retrieval.documents import Extracted, markdown
from services.retrieval.loaders.encoding import read_text


def load(path: Path, name: str) -> Extracted:
    """Markdown as it stands, with its headings."""
    return markdown(read_text(path))
