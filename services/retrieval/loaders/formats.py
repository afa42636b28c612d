"""Which loader reads which file, by the file's name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path, PurePath

from services.retrieval.documents import Extracted, UnreadableDocument, UnsupportedDocument

VERSION = 1
"""Grows when a loader makes other text of the same bytes, or chunks are cut otherwise: all is then read again."""

FORMATS = {
    "txt": (".txt", ".text", ".log", ".rst"),
    "markdown": (".md", ".markdown", ".mdx"),
    "html": (".html", ".htm", ".xhtml"),
    "pdf": (".pdf",),
    "docx": (".docx",),
    "xlsx": (".xlsx", ".xlsm"),
    "csv": (".csv", ".tsv"),
    "json": (".json", ".jsonl", ".ndjson"),
}
SUFFIXES = {suffix: name for name, suffixes in FORMATS.items() for suffix in suffixes}
MEDIA_TYPES = {
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/x-ndjson": ".jsonl",
}

_MODULES = {"markdown": "md", "csv": "csv_table", "json": "json_tree"}
_MAGIC = {"pdf": b"%PDF-", "docx": b"PK\x03\x04", "xlsx": b"PK\x03\x04"}
_ENCRYPTED_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HEAD = 1024


def format_of(name: str) -> str:
    """The format that a file's name stands for. Raises UnsupportedDocument."""
    suffix = PurePath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise UnsupportedDocument(
            f"{name} cannot be read.", why=f"its name does not end in one of {', '.join(SUFFIXES)}", hint="convert or rename it"
        )
    return SUFFIXES[suffix]


def load(path: Path, name: str) -> Extracted:
    """The text of a file. name: what it is called, for its suffix. Raises UnsupportedDocument and UnreadableDocument."""
    kind = format_of(name)
    _check_head(path, kind)
    module = import_module(f"services.retrieval.loaders.{_MODULES.get(kind, kind)}")
    found: Extracted = module.load(path, name)
    if not found.text.strip():
        hint = "if its pages are pictures, let a program recognise the text (OCR) first" if kind == "pdf" else ""
        raise UnreadableDocument("There is no text in it.", hint=hint)
    return found


def _check_head(path: Path, kind: str) -> None:
    """Refuse what is not what its name says."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise UnreadableDocument("It is empty.")
    if kind in ("docx", "xlsx") and head.startswith(_ENCRYPTED_OFFICE):
        raise UnreadableDocument("It is encrypted, or in the format of before 2007.", hint="save it again without a password")
    magic = _MAGIC.get(kind)
    if magic and magic not in head:
        raise UnreadableDocument(f"It is no {kind} file, whatever its name says.")
    if kind not in _MAGIC and head.startswith((b"%PDF-", b"PK\x03\x04", _ENCRYPTED_OFFICE)):
        raise UnreadableDocument("It is no text, whatever its name says.")
