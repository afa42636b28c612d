"""Guessing tokens that a stream is copying: an n-gram looked up in what it has read (prompt lookup decoding).

The step that reads a stream's last token reads the guess behind it at little more cost; the guide is then asked about one
place after the other for as long as its choice is the guess. So the choices are the guide's own, with or without guesses.
Lookup as in A. Saxena, "Prompt Lookup Decoding" (2023), https://github.com/apoorvumang/prompt-lookup-decoding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]

SHORTEST, LONGEST = 3, 8
FEWEST, MOST = 3, 16
FIRST_SILENCE, SILENCE = 4, 64


class Drafter:
    """Drafts for one stream.

    How much it dares follows how it fared: a draft that was right to its end doubles the next one (FEWEST to MOST tokens),
    one that was mostly wrong halves it, and one that was wrong at its first token is followed by a silence, twice as long
    each time (up to SILENCE steps). So text that copies nothing pays for a handful of wrong drafts only.
    """

    def __init__(self) -> None:
        self.drafted = 0
        self.accepted = 0
        self._size = FEWEST
        self._silence = FIRST_SILENCE
        self._rest = 0

    def draft(self, tokens: Tokens, room: int) -> list[int]:
        """What may follow these tokens, at most `room` of them; nothing where no n-gram repeats or silence is kept."""
        if self._rest:
            self._rest -= 1
            return []
        return continuation(tokens, min(self._size, room))

    def judge(self, drafted: int, accepted: int) -> None:
        """Learn how a draft fared."""
        self.drafted += drafted
        self.accepted += accepted
        if accepted == drafted:
            self._size = min(self._size * 2, MOST)
        elif accepted * 2 < drafted:
            self._size = max(self._size // 2, FEWEST)
        if accepted:
            self._silence = FIRST_SILENCE
        else:
            self._rest = self._silence
            self._silence = min(self._silence * 2, SILENCE)


def continuation(tokens: Tokens, count: int) -> list[int]:
    """Up to `count` tokens that followed an earlier n-gram (SHORTEST to LONGEST) that the tokens end with, too.

    The longest such n-gram counts, of equally long ones the last.
    """
    size = len(tokens)
    places = np.arange(1, size)  # where what follows an n-gram may begin
    length = 0
    while length < min(LONGEST, size - 1):
        longer = places[np.searchsorted(places, length + 1) :]
        longer = longer[tokens[longer - length - 1] == tokens[size - length - 1]]
        if not len(longer):
            break
        places, length = longer, length + 1
    if length < SHORTEST or count < 1:
        return []
    start = int(places[-1])
    return [int(token) for token in tokens[start : start + count]]
