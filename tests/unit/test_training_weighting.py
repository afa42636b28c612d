"""The reference of the weighted loss: by hand, against finite differences, and whatever way an update is cut into parts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.training.plan import WEIGHTS
from services.training.token_file import TokenFile
from services.training.weighting import conversation_loss, weighted_loss


def drawn(places: int, vocabulary: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(places, vocabulary)) * 3, random.integers(vocabulary, size=places), random.choice(
        [0.0, 1.0, 2.0], size=places
    )  # fmt: skip


def test_a_loss_by_hand() -> None:
    """Chances of the targets are 1/2, 1/4 and 1/8, with weights 1, 2 and 0."""
    logits = np.log(np.array([[0.5, 0.3, 0.2], [0.5, 0.25, 0.25], [0.125, 0.5, 0.375]]))
    loss, gradient = weighted_loss(logits, np.array([0, 1, 0]), np.array([1.0, 2.0, 0.0]))
    assert loss == pytest.approx((1 * math.log(2) + 2 * math.log(4) + 0) / 3)
    expected = [[-0.5 / 3, 0.3 / 3, 0.2 / 3], [0.5 * 2 / 3, -0.75 * 2 / 3, 0.25 * 2 / 3], [0, 0, 0]]
    assert gradient == pytest.approx(np.array(expected))


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits, targets, weights = drawn(7, 11)
    _, gradient = weighted_loss(logits, targets, weights)
    step = 1e-5
    for place in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[place] += step
        down[place] -= step
        slope = (weighted_loss(up, targets, weights)[0] - weighted_loss(down, targets, weights)[0]) / (2 * step)
        assert gradient[place] == pytest.approx(slope, abs=1e-9)


def test_equal_weights_are_the_mean_whatever_they_are() -> None:
    logits, targets, _ = drawn(9, 5)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mean = -np.log(chances[np.arange(9), targets]).mean()
    for weight in (0.5, 1.0, 2.0):
        assert weighted_loss(logits, targets, np.full(9, weight))[0] == pytest.approx(mean)


def test_parts_of_an_update_add_up_to_it_and_a_mean_of_their_means_would_not() -> None:
    logits, targets, weights = drawn(40, 13)
    loss, gradient = weighted_loss(logits, targets, weights)
    cuts = [slice(0, 3), slice(3, 25), slice(25, 40)]
    parts = [weighted_loss(logits[cut], targets[cut], weights[cut], total=float(weights.sum())) for cut in cuts]
    assert sum(part for part, _ in parts) == pytest.approx(loss)
    assert np.concatenate([part for _, part in parts]) == pytest.approx(gradient)
    assert np.mean([weighted_loss(logits[cut], targets[cut], weights[cut])[0] for cut in cuts]) != pytest.approx(loss, rel=1e-3)


def test_a_weight_belongs_to_the_token_that_is_predicted_not_to_the_place_that_predicts() -> None:
    """The model is sure of the token after each place; only the third token counts."""
    tokens = np.array([1, 2, 3, 0])
    sure = np.full((4, 4), -50.0)
    sure[np.arange(3), tokens[1:]] = 50.0
    weights = np.array([0.0, 0.0, 1.0, 0.0])
    assert conversation_loss(sure, tokens, weights)[0] == pytest.approx(0, abs=1e-12)
    sure[1] = [0, 0, 0, math.log(3)]  # 3 of 6 for token 3, which is the third
    loss, gradient = conversation_loss(sure, tokens, weights)
    assert loss == pytest.approx(math.log(2))
    assert np.flatnonzero(np.abs(gradient).sum(1) > 1e-9).tolist() == [1]


def test_the_first_token_counts_nothing_and_nothing_follows_the_last() -> None:
    logits, tokens, weights = drawn(6, 5)
    heavy = weights.copy()
    heavy[0] = 1000.0
    assert conversation_loss(logits, tokens, heavy)[0] == conversation_loss(logits, tokens, weights)[0]
    assert not conversation_loss(logits, tokens, weights)[1][-1].any()


def test_kinds_become_the_paper_s_weights_and_the_loss_follows_them() -> None:
    """Of seven kinds in a row: nothing for what is read, 1 for words, syntax and the end, 2 for what a call says."""
    names = ("context", "answer", "markup", "name", "parameters", "url", "end")
    file = TokenFile.of([(0, [0, 1, 2, 3, 4, 5, 6], range(7))], names)
    weights = file.weights(WEIGHTS).astype(np.float64)
    assert weights.tolist() == [0, 1, 1, 2, 2, 2, 1]
    even = np.zeros((7, 7))  # each token has a chance of 1/7
    assert conversation_loss(even, file.tokens.astype(np.int64), weights)[0] == pytest.approx(math.log(7))
    better = even.copy()
    better[3, 4] = math.log(7)  # the parameters' token: 7 of 13
    loss = conversation_loss(better, file.tokens.astype(np.int64), weights)[0]
    assert loss == pytest.approx((7 * math.log(7) + 2 * math.log(13 / 7)) / 9)


def test_nothing_to_learn_is_no_loss_and_large_scores_are_no_overflow() -> None:
    logits, targets, weights = drawn(3, 4)
    loss, gradient = weighted_loss(logits, targets, weights * 0)
    assert loss == 0
    assert not gradient.any()
    loss, gradient = weighted_loss(logits * 1e6, targets, np.ones(3))
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("targets", "weights"), [(np.zeros(2, int), np.ones(3)), (np.zeros(3, int), np.ones(2)), (np.zeros(3, int), -np.ones(3))]
)
def test_what_does_not_fit_is_refused(targets: np.ndarray, weights: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"fit|negative"):
        weighted_loss(np.zeros((3, 4)), targets, weights)
