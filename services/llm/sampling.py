"""Choosing the next token from logits: greedy, or by temperature, top-k and top-p with a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.messages import Sampling
from services.llm.scores import Logits, Scores

Allowed = NDArray[np.bool_]


class Sampler:
    """Chooses tokens; the same seed and logits give the same choices."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, scores: Scores, allowed: Allowed | None = None) -> int:
        """One token among the allowed ones."""
        if self._sampling.temperature == 0 and (allowed is None or allowed[scores.best()]):
            return scores.best()
        logits = scores.all()
        if allowed is not None:
            logits = np.where(allowed, logits, np.float32(-np.inf))
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        candidates, chances = self._nucleus(logits)
        return int(self._random.choice(candidates, p=chances))

    def _nucleus(self, logits: Logits) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The likeliest tokens within top-k and top-p, with chances that add up to 1."""
        keep = self._sampling.top_k or len(logits)
        order = np.argsort(-logits, kind="stable")[:keep]
        chances = np.exp(log_softmax(logits[order] / self._sampling.temperature))
        reached = int(np.searchsorted(np.cumsum(chances), self._sampling.top_p)) + 1
        chances = chances[:reached]
        return order[:reached], chances / chances.sum()


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-probabilities of logits."""
    shifted = logits.astype(np.float64) - logits.max()
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result
