"""The port of a decoder: memory for several streams in slots, read and written by steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.llm.scores import Scores


class Decoder(Protocol):
    """Slots of keys and values of `capacity` tokens each. Not safe for two threads.

    vocabulary: logits of a place, which may be more than the tokenizer's tokens. provider: where it runs. precision: of
    its weights. threads: that compute. chunk: tokens that one step reads best.
    """

    vocabulary: int
    provider: str
    precision: str
    threads: int
    slots: int
    capacity: int
    chunk: int

    def step(self, first: int, tokens: NDArray[np.int64], past: Sequence[int], *, every: bool = False) -> Sequence[Scores]:
        """Read tokens [rows, n] into the slots from `first` on; the scores after the last token of each row.

        past: valid tokens of each row before this step. n > 1 only with one row (an operator limit of ONNX Runtime). In
        slots around them, and in full slots (past = capacity) that merely take part, what lies behind the valid tokens,
        or the last token of a full one, is lost.
        every: with one row, the scores after each of its n tokens. Scores are good until the next step.
        """
        ...

    def fork(self, source: int, target: int, length: int) -> None:
        """Copy the first tokens of one slot to another."""
        ...

    def close(self) -> None:
        """Give back its memory; no step follows."""
        ...
