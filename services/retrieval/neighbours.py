"""Found passages with what stands around them: windows that touch become one passage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from schemas.events import Passage


class Place(NamedTuple):
    """A place in a document, counted in pieces, as of one version of its collection."""

    document: str
    number: int


class Piece(NamedTuple):
    """What stands at a place. start, end: character offsets."""

    text: str
    start: int
    end: int
    page: int | None = None


@dataclass(slots=True)
class _Window:
    best: Passage
    numbers: set[int]


def wanted_places(found: Iterable[Place], neighbours: int) -> list[Place]:
    """The places of all windows, each once; some may lie outside of the document."""
    return sorted(
        {
            Place(at.document, number)
            for at in found
            for number in range(max(0, at.number - neighbours), at.number + neighbours + 1)
        }
    )


def widened(found: Sequence[tuple[Passage, Place]], around: Mapping[Place, Piece], neighbours: int) -> list[Passage]:
    """Each passage with its neighbours, best first; those whose windows overlap or touch in one, under the best one's name.

    found: best first. around: what stands at the wanted places.
    """
    windows: list[_Window] = []
    for passage, at in found:
        low, high = at.number - neighbours, at.number + neighbours
        mine = _Window(passage, {number for number in range(low, high + 1) if Place(at.document, number) in around})
        for other in [window for window in windows if window.best.document == at.document and _touch(window, mine)]:
            windows.remove(other)
            mine = _Window(other.best if other.best.score >= mine.best.score else mine.best, other.numbers | mine.numbers)
        windows.append(mine)
    windows.sort(key=lambda window: -window.best.score)
    return [_joined(window, around) for window in windows]


def _touch(one: _Window, other: _Window) -> bool:
    return min(one.numbers) <= max(other.numbers) + 1 and min(other.numbers) <= max(one.numbers) + 1


def _joined(window: _Window, around: Mapping[Place, Piece]) -> Passage:
    """From the first piece's start to the last one's end; a gap between two reads as a line break, or a blank line."""
    pieces = [around[Place(window.best.document, number)] for number in sorted(window.numbers)]
    text = pieces[0].text
    for one, other in pairwise(pieces):
        gap = other.start - one.end
        text += "\n" * min(gap, 2) + other.text if gap >= 0 else other.text[-gap:]
    start, end = pieces[0].start, max(piece.end for piece in pieces)
    return window.best.model_copy(update={"text": text, "start": start, "end": end, "page": pieces[0].page})
