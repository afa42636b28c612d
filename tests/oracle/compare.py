"""Two decoders side by side: how far their logits are from each other, and what each says greedily."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.llm.decoder import Decoder
from services.llm.engine import END, Next
from services.llm.scores import Scores

Logits = NDArray[np.float32]


def logits_of(decoder: Decoder, ids: Sequence[int], *, slot: int = 0) -> Logits:
    """The logits after each token [len(ids), vocabulary]; the second half is read upon the first one's cache."""
    half = len(ids) // 2
    parts = [(ids[:half], 0), (ids[half:], half)]
    return np.array([s.all() for part, past in parts for s in decoder.step(slot, np.array([part]), [past], every=True)])


def greedy(decoder: Decoder, ids: Sequence[int], steps: int, *, slot: int = 0) -> list[int]:
    """The likeliest continuation, read token by token."""
    scores = decoder.step(slot, np.array([ids]), [0])
    said = [scores[0].best()]
    while len(said) < steps:
        said.append(decoder.step(slot, np.array([said[-1:]]), [len(ids) + len(said) - 1])[0].best())
    return said


def distance(one: Logits, other: Logits) -> float:
    """The largest difference between logits, as a part of the largest logit."""
    assert one.shape == other.shape
    return float(np.abs(one - other).max() / np.abs(other).max())


@dataclass
class Greedy:
    """A guide that takes the likeliest token, `steps` times."""

    steps: int

    def __post_init__(self) -> None:
        self.said: list[int] = []

    def follow(self, scores: Scores) -> Next:
        self.said.append(scores.best())
        return Next([self.said[-1]]) if len(self.said) < self.steps else END
