"""JSON: a line a value; the path of the object or list that it stands in is the heading."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePath

from schemas.canonical import Json
from services.retrieval.documents import Extracted, UnreadableDocument
from services.retrieval.loaders.encoding import read_text
from services.retrieval.loaders.written import Written

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def load(path: Path, name: str) -> Extracted:
    """All values, in the order of the file; paths as in JSONPath (RFC 9535). Raises UnreadableDocument."""
    text = read_text(path)
    try:
        tree = _lines(text) if PurePath(name).suffix.lower() in (".jsonl", ".ndjson") else json.loads(text)
        written = Written()
        _write(written, "$", tree)
    except RecursionError as error:
        raise UnreadableDocument("Its values stand too deep in each other.") from error
    except ValueError as error:
        raise UnreadableDocument("It is no JSON.", why=str(error)[:200]) from error
    return written.document()


def _lines(text: str) -> list[Json]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _write(written: Written, path: str, value: Json) -> None:
    """The plain values of an object or list first, under a line with its path; then those that have values of their own."""
    if not isinstance(value, dict | list):
        written.line(_said(value))
        return
    leaves = [(key, said) for key, each in _members(value) if (said := _leaf(each)) is not None]
    if leaves:
        written.headline(2, path)
    for key, said in leaves:
        written.line(f"{key}: {said}" if isinstance(value, dict) else said)
    if leaves:
        written.line("")
    for key, each in _members(value):
        if _leaf(each) is None:
            _write(written, f"{path}{_step(key)}", each)


def _leaf(value: Json) -> str | None:
    """A plain value, or a list of only such, as it is written in one line; None for what needs more."""
    if isinstance(value, list):
        return ", ".join(map(_said, value)) if not any(isinstance(each, dict | list) for each in value) else None
    return None if isinstance(value, dict) else _said(value)


def _members(value: dict[str, Json] | list[Json]) -> list[tuple[str | int, Json]]:
    return list(value.items()) if isinstance(value, dict) else list(enumerate(value))


def _step(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if _NAME.fullmatch(key) else f"[{json.dumps(key, ensure_ascii=False)}]"


def _said(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)
