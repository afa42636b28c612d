"""The runs of words that a text is made of: what two texts share tells whether one was written from the other."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from hashlib import blake2b

WORDS = 8
CHINESE = 13

_WORD = re.compile(r"[^\W_\u3400-\u9fff]+(?:['’][^\W_\u3400-\u9fff]+)?")
_HAN = re.compile(r"[\u3400-\u9fff]+")
_BETWEEN = re.compile(r"[\W_]+")


def normal(text: str) -> str:
    """Lower case, one form for each character, no punctuation, single spaces."""
    return _BETWEEN.sub(" ", unicodedata.normalize("NFKC", text).lower()).strip()


def runs(text: str, words: int = WORDS, chinese: int = CHINESE) -> Iterator[str]:
    """Every run of so many words, and of so many Chinese characters between which stands nothing but punctuation."""
    plain = normal(text)
    said = _WORD.findall(plain)
    for start in range(len(said) - words + 1):
        yield " ".join(said[start : start + words])
    for found in _HAN.findall(_joined_han(plain)):
        for start in range(len(found) - chinese + 1):
            yield found[start : start + chinese]


def _joined_han(plain: str) -> str:
    """The text without the spaces that stand between Chinese characters."""
    return re.sub(r"(?<=[\u3400-\u9fff]) (?=[\u3400-\u9fff])", "", plain)


def sum_of(text: str) -> int:
    """64 bits that stand for a text."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
