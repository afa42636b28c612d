"""Documents to chunks: pieces of bounded size with their heading and their exact place."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from pathlib import PurePath

from schemas.canonical import digest
from schemas.errors import MilepostError
from schemas.tools import Value

CAPACITY = 256
ACCEPTED = (".md", ".markdown", ".txt")

_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")


class UnsupportedDocument(MilepostError):
    """The document's format is not read yet."""


class UnreadableDocument(MilepostError):
    """The document is empty or is no text."""


class Chunk(Value):
    """A piece of a document. start, end: character offsets into its text; heading: the path of headings above it.

    hash: over heading and text, that is over all that is embedded.
    """

    text: str
    heading: str
    start: int
    end: int
    hash: str

    def to_embed(self) -> str:
        """What the embedder and the index read: the text under its heading."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


def read_document(name: str, raw: bytes) -> str:
    """The text of a document. Raises UnsupportedDocument for other suffixes and UnreadableDocument for no text."""
    suffix = PurePath(name).suffix.lower()
    if suffix not in ACCEPTED:
        raise UnsupportedDocument(
            f"{name} cannot be read.", why=f"only {', '.join(ACCEPTED)} are", hint="convert it to Markdown or plain text"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableDocument(f"{name} is no UTF-8 text.", why=str(error), hint="save it as UTF-8") from error
    if "\x00" in text:
        raise UnreadableDocument(f"{name} is no text.", why="it holds NUL bytes")
    if not text.strip():
        raise UnreadableDocument(f"{name} is empty.")
    return text


def chunk(name: str, text: str, count: Callable[[str], int] | None = None, capacity: int = CAPACITY) -> list[Chunk]:
    """Chunks of at most `capacity` tokens as `count` counts them (without one: estimated), in order.

    Cuts at the highest structure that fits: sections, paragraphs, sentences, words. A heading that stands
    alone is no chunk: it is the `heading` of what follows.
    """
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    markdown = PurePath(name).suffix.lower() != ".txt"
    splitter = (MarkdownSplitter if markdown else TextSplitter).from_callback(count or estimate, capacity)
    headings = _Headings(text) if markdown else None
    chunks = []
    for start, piece in splitter.chunk_indices(text):
        if headings and _only_headings(piece):
            continue
        heading = headings.above(start, piece) if headings else ""
        chunks.append(Chunk(text=piece, heading=heading, start=start, end=start + len(piece), hash=digest(heading, piece)))
    return chunks


def estimate(text: str) -> int:
    """Tokens without a tokenizer: one a CJK character, one for four others."""
    wide = len(_CJK.findall(text))
    return wide + -(-(len(text) - wide) // 4)


def _only_headings(piece: str) -> bool:
    return all(_HEADING.match(line) for line in piece.splitlines() if line.strip())


class _Headings:
    """Which headings stand above an offset of a Markdown text."""

    def __init__(self, text: str) -> None:
        self._starts: list[int] = []
        self._paths: list[str] = []
        path: list[tuple[int, str]] = []
        for start, level, title in _headings(text):
            path = [(above, name) for above, name in path if above < level] + [(level, title)]
            self._starts.append(start)
            self._paths.append(" > ".join(name for _, name in path if name))

    def above(self, start: int, piece: str) -> str:
        """The path above a piece; one that begins with its own heading stands under it."""
        begin = start + len(piece) - len(piece.lstrip())
        at = bisect_right(self._starts, begin)
        return self._paths[at - 1] if at else ""


def _headings(text: str) -> list[tuple[int, int, str]]:
    """Offset, level and title of each ATX heading outside of fenced code."""
    found = []
    offset, fence = 0, ""
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
        elif mark:
            fence = mark[1]
        elif heading := _HEADING.match(line.rstrip("\r\n")):
            found.append((offset, len(heading[1]), heading[2]))
        offset += len(line)
    return found
