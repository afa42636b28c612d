"""The weighted loss in plain numpy, float64: what the trainer's loss is held against in its tests.

Weighted LM (arXiv 2309.00986, appendix B.3) gives each token of a conversation a weight by what it is part of: L = sum over
tokens of w * -log p(token | all before it), divided by the sum of w. The paper does not say what it divides by. Here it is
the sum of the weights over a whole update, all its rows and accumulated steps: then neither packing nor accumulation changes
what is learnt, and a conversation counts by what it says, not by how many share its row.

Shift: the logits at a place say what the token at the next place is. A token's weight belongs to the token, so the weight of
place n + 1 goes with the logits of place n; the first token of a conversation is predicted by nothing and never counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def weighted_loss(logits: Floats, targets: Indices, weights: Floats, *, total: float | None = None) -> tuple[float, Floats]:
    """The loss of predictions and its gradient by the logits: sum(w * nll) / sum(w), and w * (softmax - onehot) / sum(w).

    logits: (n, vocabulary), each the prediction of the target beside it (already shifted); targets, weights: (n,). total: the
    sum of weights of the whole update where these are only a part of it, so that parts add up. Without any weight both are 0.
    Raises ValueError for shapes that do not fit or a negative weight.
    """
    if logits.ndim != 2 or targets.shape != logits.shape[:1] or weights.shape != targets.shape:
        raise ValueError(f"logits {logits.shape}, targets {targets.shape} and weights {weights.shape} do not fit each other")
    if (weights < 0).any():
        raise ValueError("a weight is negative")
    whole = float(weights.sum()) if total is None else total
    if whole == 0:
        return 0.0, np.zeros_like(logits)
    places = np.arange(len(targets))
    chances = log_softmax(logits)
    shares = weights / whole
    gradient = np.exp(chances)
    gradient[places, targets] -= 1
    return float(-(shares * chances[places, targets]).sum()), gradient * shares[:, None]


def conversation_loss(logits: Floats, tokens: Indices, weights: Floats, *, total: float | None = None) -> tuple[float, Floats]:
    """The same for a conversation as a model reads it. logits: (n, vocabulary), of each place; tokens, weights: (n,), of each.

    total: as in `weighted_loss`; without it the weights of all tokens but the first.
    """
    loss, gradient = weighted_loss(logits[:-1], tokens[1:], weights[1:], total=total)
    return loss, np.concatenate([gradient, np.zeros_like(logits[-1:])])


def log_softmax(logits: Floats) -> Floats:
    """Log-probabilities along the last axis."""
    above: Floats = logits - logits.max(axis=-1, keepdims=True)
    chances: Floats = above - np.log(np.exp(above).sum(axis=-1, keepdims=True))
    return chances
