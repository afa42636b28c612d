from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.llm.cpu_decoder import CpuDecoder
from services.llm.graph import Precision, quantise_rows, write_graph
from services.llm.weights import UnsupportedModel, Weights
from tests.support.tiny_model import Tiny

IDS = [5, 77, 3, 200, 140, 9, 61, 30, 30, 12, 255]


def decoder_of(tiny: Tiny, folder: Path, precision: Precision, *, slots: int = 1) -> CpuDecoder:
    weights = Weights(tiny.write(folder / "tiny.gguf"))
    write_graph(weights, folder, precision=precision, context=64)
    return CpuDecoder(folder, weights.shape, slots=slots, capacity=64, threads=1)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_graph_computes_what_plain_arithmetic_computes(tmp_path: Path, family: str, tied: bool) -> None:
    tiny = Tiny.random(family, tied=tied)
    scores = decoder_of(tiny, tmp_path, "fp32").step(0, np.array([IDS]), [0])
    np.testing.assert_allclose(scores[0].all(), tiny.logits(IDS)[-1], atol=2e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_int8_graph_stays_near_plain_arithmetic(tmp_path: Path, family: str) -> None:
    tiny = Tiny.random(family, tied=False)
    logits = [scores.all() for scores in decoder_of(tiny, tmp_path, "int8").step(0, np.array([IDS]), [0])]
    wanted = tiny.logits(IDS)[-1]
    assert np.abs(logits[0] - wanted).max() < 0.12 * np.abs(wanted).max()
    assert np.corrcoef(logits[0], wanted)[0, 1] > 0.995


def test_reading_in_pieces_gives_what_reading_at_once_gives(tmp_path: Path) -> None:
    decoder = decoder_of(Tiny.random("qwen2", tied=False), tmp_path, "int8", slots=2)
    whole = decoder.step(0, np.array([IDS]), [0])
    decoder.step(1, np.array([IDS[:6]]), [0])
    decoder.step(1, np.array([IDS[6:10]]), [6])
    np.testing.assert_allclose(decoder.step(1, np.array([IDS[10:]]), [10]), whole, atol=1e-4)


def test_rows_of_a_ragged_batch_do_not_touch_each_other(tmp_path: Path) -> None:
    decoder = decoder_of(Tiny.random("llama", tied=True), tmp_path, "int8", slots=3)
    prompts = [IDS[:4], IDS[:9], IDS[2:8]]
    alone = []
    for prompt in prompts:
        decoder.step(0, np.array([prompt]), [0])
        alone.append(decoder.step(0, np.array([[7]]), [len(prompt)])[0])
    for slot, prompt in enumerate(prompts):
        decoder.step(slot, np.array([prompt]), [0])
    together = decoder.step(0, np.array([[7], [7], [7]]), [len(prompt) for prompt in prompts])
    np.testing.assert_allclose(together, np.array(alone), atol=1e-4)


def test_quantised_rows_are_within_half_a_step() -> None:
    matrix = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    table, scale = quantise_rows(matrix)
    assert np.abs(table * scale[:, None] - matrix).max() <= scale.max() * 0.501


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"not a model at all" * 10)
    with pytest.raises(UnsupportedModel, match="no\\.gguf"):
        Weights(path)


def test_a_family_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="gemma"):
        Weights(Tiny("gemma", True, Tiny.random("llama", tied=True).tensors).write(tmp_path / "tiny.gguf"))


def test_scaled_rotary_positions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="scaled"):
        Weights(Tiny.random("llama", tied=True).write(tmp_path / "tiny.gguf", rope_scaling="yarn"))
