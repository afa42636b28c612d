"""SmolLM2-135M through graphs of each precision, beside plain arithmetic on the same weights.

How far logits may be apart is told as a part of the largest logit of plain arithmetic; how far distributions may be
apart as the mean Kullback-Leibler divergence, in nats a token.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.models.catalogue import find
from infra.models.fetch import ModelUnavailable, ensure
from infra.settings import load
from services.llm.cpu_decoder import CpuDecoder
from services.llm.graph import write_graph
from services.llm.interface import Precision
from services.llm.weights import Weights
from tests.support.reference_decoder import ReferenceDecoder

Logits = NDArray[np.float32]
Folder = Callable[[Precision], Path]

MODEL = "smollm2-135m"
# "What is the capital of France, and what is it known for?", as a chat.
PROMPT = [1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 28, 284, 732, 314, 357, 1343, 327, 47, 2, 198, 1, 520, 9531, 198]
COUNT, CAPACITY = 20, 128
FP32_BOUND = 1e-4
DIVERGENCE: dict[Precision, float] = {"int8": 0.02, "int4": 0.4}
SHARED_BOUND: dict[Precision, float] = {"fp32": 1e-5, "int8": 0.01, "int4": 0.01}


@pytest.fixture(scope="module")
def source() -> Path:
    """The GGUF file, fetched if need be."""
    home = load().settings.model.home
    try:
        return asyncio.run(ensure(MODEL, home=home)) / find(MODEL).file.name
    except ModelUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def weights(source: Path) -> Weights:
    return Weights(source)


@pytest.fixture(scope="module")
def folder(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Builds a precision when it is first asked for."""

    @cache
    def built(precision: Precision) -> Path:
        path = tmp_path_factory.mktemp(precision)
        write_graph(weights, path, precision=precision, context=CAPACITY)
        return path

    return built


@pytest.fixture(scope="module")
def stream(folder: Folder, weights: Weights) -> tuple[list[int], Logits]:
    """The prompt and what fp32 says after it, token by token, with the logits after the prompt and after each token."""
    decoder = decoder_of(folder("fp32"), weights)
    ids, logits = list(PROMPT), [decoder.step(0, np.array([PROMPT]), [0])[0].all().copy()]
    for _ in range(COUNT):
        ids.append(int(logits[-1].argmax()))
        logits.append(decoder.step(0, np.array([ids[-1:]]), [len(ids) - 1])[0].all().copy())
    decoder.close()
    return ids, np.array(logits)


def decoder_of(folder: Path, weights: Weights, *, slots: int = 1) -> CpuDecoder:
    return CpuDecoder(folder, weights.shape, slots=slots, capacity=CAPACITY, threads=1)


def off(found: Logits, wanted: Logits) -> float:
    """The largest difference, as a part of the largest logit."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def log_softmax(logits: Logits) -> Logits:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def test_greedy_tokens_are_those_of_plain_arithmetic(source: Path, stream: tuple[list[int], Logits]) -> None:
    ids, logits = stream
    wanted = ReferenceDecoder.of_gguf(source).logits(ids)[len(PROMPT) - 1 :]
    assert ids[len(PROMPT) :] == wanted.argmax(-1)[:COUNT].tolist()
    assert len(set(ids[len(PROMPT) :])) > COUNT // 2
    assert off(logits, wanted) < FP32_BOUND


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_narrow_weights_stay_near_wide_ones(
    folder: Folder, weights: Weights, stream: tuple[list[int], Logits], precision: Precision
) -> None:
    ids, wide = stream
    decoder = decoder_of(folder(precision), weights)
    scores = decoder.step(0, np.array([ids]), [0], every=True)
    narrow = log_softmax(np.array([score.all() for score in scores[len(PROMPT) - 1 :]]))
    wanted = log_softmax(wide)
    divergence = float((np.exp(wanted) * (wanted - narrow)).sum(-1).mean())
    decoder.close()
    assert 0 < divergence < DIVERGENCE[precision]


@pytest.mark.parametrize("precision", list(SHARED_BOUND))
def test_streams_together_and_prompts_in_pieces_compute_what_one_alone_does(
    folder: Folder, weights: Weights, precision: Precision
) -> None:
    decoder = decoder_of(folder(precision), weights, slots=4)
    prompts = [PROMPT, PROMPT[:9], PROMPT[3:17]]
    alone = []
    for read in prompts:
        decoder.step(3, np.array([read]), [0])
        alone.append(decoder.step(3, np.array([[260]]), [len(read)])[0].all().copy())
    for slot, read in enumerate(prompts):
        decoder.step(slot, np.array([read[:5]]), [0])
        decoder.step(slot, np.array([read[5:]]), [5])
    together = decoder.step(0, np.array([[260]] * 3), [len(read) for read in prompts])
    for one, other in zip(alone, together, strict=True):
        assert off(other.all(), one) < SHARED_BOUND[precision]
    decoder.close()
