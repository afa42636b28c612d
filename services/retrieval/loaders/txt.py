"""Plain text."""

from __future__ import annotations

from pathlib import Path

from services.retrieval.documents import Extracted, plain
from services.retrieval.loaders.encoding import read_text


def load(path: Path, name: str) -> Extracted:
    """Plain text as it stands."""
    return plain(read_text(path))
