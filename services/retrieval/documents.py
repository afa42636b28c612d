"""A document as text: what every loader makes of its format, and what chunks are cut from."""

from __future__ import annotations

import re
from typing import NamedTuple

from pydantic import Field

from schemas.errors import MilepostError
from schemas.tools import Value

_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_NO_PARAGRAPH = re.compile(r"\s*(?:$|[-*+>|#]|\d+[.)]\s|<|```|~~~)| {4}|\t")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?\r?\n)??---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
TITLE_LIMIT = 300

_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)


class UnsupportedDocument(MilepostError):
    """The document's format is not read."""


class UnreadableDocument(MilepostError):
    """The document is empty, broken, encrypted, too large, or is no text."""


class Mark(NamedTuple):
    """A heading. start, end: its own characters (none for a heading that stands in no line); level: 0 is the outermost."""

    start: int
    end: int
    level: int
    title: str


class Extracted(Value):
    """A document as text; all offsets are characters of `text`.

    title: what the document calls itself, empty if it does not. marks: headings in order. pages: where each page begins.
    """

    text: str
    markdown: bool = False
    title: str = ""
    marks: tuple[Mark, ...] = ()
    pages: tuple[int, ...] = Field(default=())


def plain(text: str) -> Extracted:
    """Text without headings."""
    return Extracted(text=text)


def markdown(text: str, title: str = "") -> Extracted:
    """Markdown with its headings; they stand under the title that it gives itself, unless the first one says the same."""
    marks = _headings(text)
    title = title or _front_title(text) or (marks[0].title if marks and marks[0].level == 1 else "")
    title = title[:TITLE_LIMIT]
    if title and not (marks and marks[0].title == title):
        marks.insert(0, Mark(0, 0, 0, title))
    return Extracted(text=text, markdown=True, title=title, marks=tuple(marks))


def front_matter(text: str) -> int:
    """Where a Markdown text begins after its front matter."""
    found = _FRONT_MATTER.match(text)
    return found.end() if found else 0


def _front_title(text: str) -> str:
    found = _TITLE.search(text[: front_matter(text)])
    return found[1].strip("\"'") if found else ""


def _unclosed(title: str) -> str:
    """The title without the #s that may close it."""
    title = title.strip()
    words = title.rstrip("#")
    return words.rstrip() if words != title and (not words or words[-1] in " \t") else title


def _headings(text: str) -> list[Mark]:
    """Headings of a Markdown text outside of fenced code: `# ...`, and single lines underlined with = or -."""
    found: list[Mark] = []
    offset = front_matter(text)
    fence, before, alone = "", "", False
    for line in text[offset:].splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        mark = _FENCE.match(bare)
        if fence:
            if mark and mark[1].startswith(fence) and not bare.strip(" `~"):
                fence = ""
            bare = ""
        elif mark:
            fence = mark[1]
        elif heading := _ATX.match(bare):
            found.append(Mark(offset, offset + len(bare), len(heading[1]), _unclosed(bare[heading.end() :])[:TITLE_LIMIT]))
        elif alone and (under := _SETEXT.match(bare)):
            level = 1 if under[1][0] == "=" else 2
            found.append(Mark(offset - len(before), offset + len(bare), level, before.strip()[:TITLE_LIMIT]))
        alone = not _NO_PARAGRAPH.match(bare) and not before.strip()
        before = line if bare else ""
        offset += len(line)
    return found
