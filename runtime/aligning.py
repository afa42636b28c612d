"""Two sequences beside each other: their longest common subsequence, and words of texts beside each other by it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

How: TypeAlias = Literal["=", "-", "+"]

# The table of a comparison has a bit for each pair: 20,000 by 20,000 take 50 MB. What is longer is compared piece by piece.
PIECE = 20_000

# A word (an identifier, a date, a number with its point) with the space after it; of Chinese, a run of characters, which the
# dictionary parts into words.
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_HAN}]+|[^\W{_HAN}]+(?:[-.][^\W{_HAN}]+)*[ \t]*|\s+|.", re.DOTALL)
_CHINESE = re.compile(rf"[{_HAN}]{{2,}}")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of two sequences: the same in both, or what one has in place of the other's. Ends are not in it."""

    same: bool
    a: range
    b: range


def aligned(a: Sequence[str], b: Sequence[str]) -> list[Stretch]:
    """A longest common subsequence of both, as stretches from left to right; of two that are longer than PIECE, pieces of them.

    The same two sequences are aligned the same way round, whichever comes first. The algorithm is the bit-parallel one of
    Hyyrö (2004), as rapidfuzz has it: time and table grow with len(a) * len(b) / 64, whatever the two are like; difflib's is
    no longest common subsequence, and cubic at worst.
    """
    if list(b) < list(a):
        return [Stretch(each.same, each.b, each.a) for each in aligned(b, a)]
    found: list[Stretch] = []
    for start in range(0, max(len(a), len(b), 1), PIECE):
        found.extend(_piece(a[start : start + PIECE], b[start : start + PIECE], start))
    return found


def _piece(a: Sequence[str], b: Sequence[str], start: int) -> Iterator[Stretch]:
    from rapidfuzz.distance import LCSseq

    names: dict[str, int] = {}
    numbers = [[names.setdefault(each, len(names)) for each in side] for side in (a, b)]
    done_a = done_b = start
    for code in LCSseq.opcodes(numbers[0], numbers[1]):
        if code.tag == "equal":
            here_a, here_b = start + code.src_start, start + code.dest_start
            if (done_a, done_b) != (here_a, here_b):
                yield Stretch(False, range(done_a, here_a), range(done_b, here_b))
            done_a, done_b = start + code.src_end, start + code.dest_end
            yield Stretch(True, range(here_a, done_a), range(here_b, done_b))
    end_a, end_b = start + len(a), start + len(b)
    if (done_a, done_b) != (end_a, end_b):
        yield Stretch(False, range(done_a, end_a), range(done_b, end_b))


def words_changed(old: str, new: str) -> list[tuple[How, str]]:
    """A text beside another by words, Chinese ones too: what both have (=), what is gone (-), what is new (+), in order."""
    a, b = words_of(old), words_of(new)
    found: list[tuple[How, str]] = []
    for each in aligned(a, b):
        if each.same:
            found.append(("=", "".join(a[each.a.start : each.a.stop])))
        else:
            found.extend(_exchanged("".join(a[each.a.start : each.a.stop]), "".join(b[each.b.start : each.b.stop])))
    return found


def _exchanged(gone: str, come: str) -> Iterator[tuple[How, str]]:
    """What stands in place of what; the space after both of them is no part of the exchange."""
    ends = [text[len(text.rstrip()) :] for text in (gone, come)]
    space = ends[0] if ends[0] == ends[1] and gone.strip() and come.strip() else ""
    cut = len(space)
    pieces: tuple[tuple[How, str], ...] = (("-", gone[: len(gone) - cut]), ("+", come[: len(come) - cut]), ("=", space))
    yield from (piece for piece in pieces if piece[1])


def words_of(text: str) -> list[str]:
    """The words of a text, which joined give the text."""
    words = _WORD.findall(text)
    if not _CHINESE.search(text):
        return words
    import rjieba

    found: list[str] = []
    for word in words:
        found.extend(rjieba.cut(word) if _CHINESE.fullmatch(word) else (word,))
    return found
