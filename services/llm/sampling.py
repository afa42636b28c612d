"""Choosing the next token from scores: greedy, or by temperature, top-k and top-p with a seed.

All logits of a place are 150,000 numbers, and on a device they are slow to fetch. So a choice asks for the likeliest token
first, then for the TOP likeliest, and for all of them only where those cannot prove what the choice must be. The choice is the
same either way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.messages import Sampling
from services.llm.scores import Logits, Scores

Allowed = NDArray[np.bool_]
Tokens = NDArray[np.int64]
Chances = NDArray[np.float64]
# Sums of the same chances in another order differ by less than this share.
ROUNDING = 1e-9


class Sampler:
    """Chooses tokens; the same seed and scores give the same choices, wherever the scores lie."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token, where it is allowed, is taken without being asked for."""
        return self._sampling.temperature == 0

    def choose(self, scores: Scores, allowed: Allowed | None = None) -> int:
        """One token among the allowed ones. Raises NotFinite, and ValueError where none is allowed."""
        if self._sampling.temperature == 0:
            return _likeliest(scores, allowed)
        tokens, chances = self._nucleus(scores, allowed)
        return int(self._random.choice(tokens, p=chances))

    def _nucleus(self, scores: Scores, allowed: Allowed | None) -> tuple[Tokens, Chances]:
        """The likeliest tokens within top-k and top-p, best first, with chances that add up to 1."""
        if self._sampling.top_k or self._sampling.top_p < 1:
            tokens, logits = scores.top()
            # Of the tokens that equal the last one of these, some may lie outside.
            inside = logits > logits[-1] if allowed is None else (logits > logits[-1]) & allowed[tokens]
            count = self._certain(logits[inside], float(logits[-1]), allowed)
            if count:
                return tokens[inside][:count], self._weights(logits[inside][:count])
        logits = scores.all()
        tokens = np.arange(len(logits)) if allowed is None else np.flatnonzero(allowed)
        if not len(tokens):
            raise ValueError("no token is allowed")
        return self._among(tokens, logits[tokens])

    def _among(self, tokens: Tokens, logits: Logits) -> tuple[Tokens, Chances]:
        top_k, top_p = self._sampling.top_k, self._sampling.top_p
        if not top_k and top_p >= 1:
            return tokens, self._weights(logits)
        weights = self._weights(logits)
        if not top_k:
            # All that are lighter than this weigh less than 1 - top_p together, so they need not be sorted.
            heavy = weights >= (1 - top_p) / len(tokens) * (1 - ROUNDING)
            tokens, logits, weights = tokens[heavy], logits[heavy], weights[heavy]
        order = np.argsort(-logits, kind="stable")[: top_k or None]
        reached = len(order)
        if top_p < 1:
            reached = _reached(weights[order], top_p * (float(weights[order].sum()) if top_k else 1.0))
        return tokens[order[:reached]], self._weights(logits[order[:reached]])

    def _certain(self, logits: Logits, least: float, allowed: Allowed | None) -> int:
        """How many of these, the likeliest allowed tokens, make the nucleus; 0 where the rest of the vocabulary may matter.

        least: no token outside has a larger logit. So each of them weighs at most exp((least - best) / temperature), the
        weight of all lies between two bounds, and where both cut at the same place that is the place.
        """
        outside = int(np.count_nonzero(allowed)) - len(logits) if allowed is not None else None
        count = len(logits)
        if self._sampling.top_k:
            count = min(self._sampling.top_k, count)
            if count < self._sampling.top_k and outside != 0:
                return 0
            outside = 0
        if not count or outside is None:
            return 0
        if self._sampling.top_p >= 1:
            return count
        weights = np.exp((logits[:count].astype(np.float64) - float(logits[0])) / self._sampling.temperature)
        rest = outside * math.exp((least - float(logits[0])) / self._sampling.temperature)
        total = float(weights.sum())
        fewest = _reached(weights, self._sampling.top_p * total * (1 - ROUNDING))
        most = _reached(weights, self._sampling.top_p * (total + rest) * (1 + ROUNDING))
        return fewest if fewest == most <= count else 0

    def _weights(self, logits: Logits) -> Chances:
        """Chances of these tokens, as if there were no others."""
        chances: Chances = np.exp((logits.astype(np.float64) - float(logits.max())) / self._sampling.temperature)
        return chances / float(chances.sum())


# What makes the samplers of a turn; another one than Sampler may look on as it chooses.
Samplers: TypeAlias = Callable[[Sampling], Sampler]


def _likeliest(scores: Scores, allowed: Allowed | None) -> int:
    best = scores.best()
    if allowed is None or allowed[best]:
        return best
    tokens, logits = scores.top()
    # Of tokens that equal the last one of the top, one outside may come first.
    for token, logit in zip(tokens, logits, strict=True):
        if allowed[token] and logit > logits[-1]:
            return int(token)
    masked = np.where(allowed, scores.all(), np.float32(-np.inf))
    best = int(masked.argmax())
    if not allowed[best]:
        raise ValueError("no token is allowed")
    return best


def _reached(weights: Chances, mass: float) -> int:
    """How many of the weights, from the first, it takes to reach a mass; one more than there are if they do not."""
    return int(np.searchsorted(np.cumsum(weights), mass)) + 1


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-probabilities of logits."""
    shifted = logits.astype(np.float64) - logits.max()
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result
