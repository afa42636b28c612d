"""Documents to chunks: pieces of bounded size with their heading, their page and their exact place."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import TypeAlias

from schemas.canonical import digest
from schemas.tools import Value
from services.retrieval.documents import Extracted, Mark, front_matter, markdown, plain
from services.retrieval.embedder import estimate

CAPACITY = 256
HEADING_CAPACITY = 96
CRUMB = 8
"""A piece of less than this part of the capacity, a fence or a last line, goes with its neighbour under the same heading."""
SECTION = 12_000
"""Characters of a section: some thousand tokens, seconds of an embedder on a CPU, far below what a message holds."""

PARTS = 2
"""Headings of Markdown up to this level are never passed over by a chunk, however little stands under them."""

Count: TypeAlias = Callable[[str], int]

# What is written in a Markdown file, but not for its readers: comments, imports of components, the page's head.
_UNSEEN = re.compile(
    r"^[ \t]*(?:<!--.*?-->|<(head|style|script)\b.*?</\1>|(?:import|export)\b[^\n]*\bfrom\b[^\n]*['\"];?)[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_FENCED = re.compile(r"^ {0,3}(```+|~~~+)[^\n]*\n.*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)


class Chunk(Value):
    """A piece of a document. start, end: character offsets into its text; heading: the path of headings above it.

    page: of a paged document, the one on which it begins, from 1. hash: over heading and text, that is over all that is
    embedded.
    """

    text: str
    heading: str
    start: int
    end: int
    hash: str
    page: int | None = None

    def to_embed(self) -> str:
        """What the embedder and the index read: the text under its heading."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


class Section(Value):
    """A stretch of a document that is cut by itself, so that a long document never is in one message or in memory.

    start: its offset in the document. marks: the headings above it and in it; pages: where those pages begin that it
    touches, the first of them being number `page` (0 in a document without pages). All offsets are the document's.
    """

    text: str
    start: int = 0
    markdown: bool = False
    marks: tuple[Mark, ...] = ()
    pages: tuple[int, ...] = ()
    page: int = 0


def chunk(name: str, text: str, count: Count | None = None, capacity: int = CAPACITY) -> list[Chunk]:
    """The chunks of a Markdown document (of plain text, if the name ends in .txt), as chunks_of cuts them."""
    document = plain(text) if PurePath(name).suffix.lower() == ".txt" else markdown(text)
    return [piece for section in sections(document) for piece in chunks_of(section, count, capacity)]


def sections(document: Extracted, size: int = SECTION) -> Iterator[Section]:
    """The document in stretches of at most `size` characters, in order and without a gap; the same text, the same stretches.

    They end at the highest heading in their second half; without one at a blank line, a line, or where they are full.
    """
    text, marks, pages = document.text, document.marks, document.pages
    starts = [mark.start for mark in marks]
    start = 0
    while start < len(text) or start == 0:
        end = _section_end(text, marks, starts, start, size)
        first = max(0, bisect_right(pages, start) - 1)
        inside = marks[bisect_right(starts, start - 1) : bisect_right(starts, end - 1)]
        yield Section(
            text=text[start:end], start=start, markdown=document.markdown,
            marks=(*_above(marks[: bisect_right(starts, start - 1)]), *inside),
            pages=pages[first : bisect_right(pages, end - 1)], page=first + 1 if pages else 0,
        )  # fmt: skip
        start = max(end, 1)


def chunks_of(section: Section, count: Count | None = None, capacity: int = CAPACITY) -> list[Chunk]:
    """Chunks of `capacity` tokens as `count` counts them (without one: estimated), with a crumb an eighth more; in order.

    Cuts at the highest structure that fits: headings, paragraphs, sentences, words. A heading that stands alone is no
    chunk: it is the `heading` of what follows. A chunk says what `text[start:end]` of the document says, to the character.
    """
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    count = count or estimate
    cut = (MarkdownSplitter if section.markdown else TextSplitter).from_callback(count, capacity)
    headings = _Headings(section.marks, count)
    chunks: list[Chunk] = []
    for first, last in _runs(section):
        begun = len(chunks)
        pieces = ((section.start + first + offset, text) for offset, text in cut.chunk_indices(section.text[first:last]))
        for start, text in headings.apart(pieces) if section.markdown else pieces:
            if headings.only(start, text):
                continue
            heading = headings.above(start, text)
            piece = _joined(section, chunks[-1], start + len(text), heading, count, capacity) if len(chunks) > begun else None
            if piece is not None:
                chunks[-1] = piece
                continue
            page = section.page - 1 + bisect_right(section.pages, start) if section.page else None
            chunks.append(_chunk(section, start, start + len(text), heading, page))
    return chunks


def _chunk(section: Section, start: int, end: int, heading: str, page: int | None) -> Chunk:
    text = section.text[start - section.start : end - section.start]
    return Chunk(text=text, heading=heading, start=start, end=end, page=page, hash=digest(heading, text))


def _joined(section: Section, before: Chunk, end: int, heading: str, count: Count, capacity: int) -> Chunk | None:
    """The chunk with the piece that follows it up to `end`, when one of both is a crumb; None if they are to stay apart."""
    if heading != before.heading:
        return None
    joined = _chunk(section, before.start, end, heading, before.page)
    added = section.text[before.end - section.start : end - section.start]
    crumb = min(count(before.text), count(added)) < capacity // CRUMB
    return joined if crumb and count(joined.text) <= capacity + capacity // CRUMB else None


def _section_end(text: str, marks: Sequence[Mark], starts: Sequence[int], start: int, size: int) -> int:
    if len(text) - start <= size:
        return len(text)
    half, full = start + size // 2, start + size
    inside = marks[bisect_right(starts, half) : bisect_right(starts, full)]
    if inside:
        top = min(mark.level for mark in inside)
        return max(mark.start for mark in inside if mark.level == top)
    for border in ("\n\n", "\n", " "):
        if (at := text.rfind(border, half, full)) >= 0:
            return at + len(border)
    return full


def _above(marks: Sequence[Mark]) -> list[Mark]:
    """Of headings that have passed those that still hold, outermost first."""
    holding: list[Mark] = []
    for mark in reversed(marks):
        if not holding or mark.level < holding[0].level:
            holding.insert(0, mark)
        if holding[0].level == 0:
            break
    return holding


def _runs(section: Section) -> Iterator[tuple[int, int]]:
    """Stretches of the section that no chunk may cross: what lies between unseen blocks, sheets or other outer headings."""
    if section.markdown:
        yield from _seen(section.text, front_matter(section.text) if section.start == 0 else 0)
        return
    begin = 0
    for mark in section.marks:
        if mark.level <= 1 and (end := mark.start - section.start) > begin:
            yield begin, end
            begin = end
    yield begin, len(section.text)


def _seen(text: str, begin: int) -> Iterator[tuple[int, int]]:
    code = [(found.start(), found.end()) for found in _FENCED.finditer(text, begin)]
    openings = [start for start, _ in code]
    for found in _UNSEEN.finditer(text, begin):
        at = bisect_right(openings, found.start()) - 1
        if at >= 0 and found.start() < code[at][1]:
            continue
        if found.start() > begin:
            yield begin, found.start()
        begin = max(begin, found.end())
    yield begin, len(text)


class _Headings:
    """Which headings stand above an offset."""

    def __init__(self, marks: Sequence[Mark], count: Count) -> None:
        self._marks, self._count = marks, count
        self._starts: list[int] = []
        self._paths: list[list[str]] = []
        path: list[Mark] = []
        for mark in marks:
            path = [above for above in path if above.level < mark.level] + [mark]
            self._starts.append(mark.start)
            self._paths.append([each.title for each in path if each.title])
        self._fitted: dict[int, str] = {}

    def above(self, start: int, piece: str) -> str:
        """The path above a piece; one that begins with its own heading stands under it."""
        at = self._before(start + len(piece) - len(piece.lstrip()))
        if at < 0:
            return ""
        if at not in self._fitted:
            self._fitted[at] = _fitting(self._paths[at], self._count)
        return self._fitted[at]

    def apart(self, pieces: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """Pieces that stand under their own heading to the end: cut where a part begins, or what is not below it."""
        for start, text in pieces:
            begin, end = start, start + len(text)
            at = self._before(start + len(text) - len(text.lstrip()))
            level = self._marks[at].level if at >= 0 else 0
            for mark in self._marks[at + 1 :]:
                if mark.start >= end:
                    break
                if mark.level <= max(level, PARTS):
                    yield from _stripped(begin, text[begin - start : mark.start - start])
                    begin, level = mark.start, mark.level
            yield from _stripped(begin, text[begin - start :])

    def only(self, start: int, piece: str) -> bool:
        """Whether the piece is headings and nothing else."""
        at, rest = max(0, self._before(start)), start
        for mark in self._marks[at:]:
            if mark.start >= start + len(piece) or piece[rest - start : max(0, mark.start - start)].strip():
                break
            rest = max(rest, mark.end)
        return rest > start and not piece[rest - start :].strip()

    def _before(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1


def _stripped(start: int, text: str) -> Iterator[tuple[int, str]]:
    """The text without blanks around it, and where it begins then; nothing if there is nothing else."""
    if bare := text.strip():
        yield start + text.index(bare), bare


def _fitting(path: list[str], count: Count) -> str:
    """A path of headings within HEADING_CAPACITY tokens: the outer ones are dropped first, then the end is cut."""
    while len(path) > 1 and count(" > ".join(path)) > HEADING_CAPACITY:
        path = path[1:]
    text = " > ".join(path)
    while text and count(text) > HEADING_CAPACITY:
        text = text[: len(text) * 3 // 4]
    return text
