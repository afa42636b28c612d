from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented

from services.llm.cpu_decoder import CpuDecoder
from services.llm.graph import write_graph
from services.llm.interface import FACTS, GRAPH_FILE, Precision
from services.llm.quantise import quantise_blocks, quantise_rows
from services.llm.scores import TOP
from services.llm.weights import Weights
from tests.support.plain_graph import PlainGraph
from tests.support.tiny_model import VOCABULARY, Tiny

IDS = [5, 77, 3, 200, 140, 9, 61, 30, 30, 12, 255]
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 4.0}
QUANTISED: tuple[Precision, ...] = ("int8", "int4")


def write(tiny: Tiny, folder: Path, precision: Precision, *, hub: bool = False) -> Weights:
    weights = Weights(tiny.write_folder(folder / "hub") if hub else tiny.write(folder / "tiny.gguf"))
    write_graph(weights, folder, precision=precision, context=64)
    return weights


def graph_of(tiny: Tiny, folder: Path, precision: Precision, *, hub: bool = False) -> PlainGraph:
    return PlainGraph(folder, write(tiny, folder, precision, hub=hub).shape, precision)


def decoder_of(tiny: Tiny, folder: Path, precision: Precision, *, slots: int = 1) -> CpuDecoder:
    shape = write(tiny, folder, precision).shape
    return CpuDecoder(folder, shape, slots=slots, capacity=64, threads=1)


def off(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """The largest difference, as a part of the largest number."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("hub", [False, True])
def test_the_graph_computes_what_plain_arithmetic_computes(tmp_path: Path, family: str, tied: bool, hub: bool) -> None:
    tiny = Tiny.random(family, tied=tied, head_dim=32 if family == "qwen3" else 16)
    np.testing.assert_allclose(graph_of(tiny, tmp_path, "fp32", hub=hub).logits(IDS), tiny.logits(IDS), atol=3e-4)


@pytest.mark.parametrize(("family", "scaling"), [("llama", {}), ("llama", LLAMA3), ("qwen2", {}), ("qwen3", {})])
def test_greedy_tokens_one_by_one_are_those_of_plain_arithmetic(
    tmp_path: Path, family: str, scaling: Mapping[str, object]
) -> None:
    tiny = Tiny.random(family, tied=False, scaling=scaling)
    decoder, ids = decoder_of(tiny, tmp_path, "fp32"), list(IDS)
    best = decoder.step(0, np.array([ids]), [0])[0].best()
    for _ in range(20):
        ids.append(best)
        best = decoder.step(0, np.array([ids[-1:]]), [len(ids) - 1])[0].best()
    assert ids[len(IDS) :] == tiny.logits(ids).argmax(-1)[len(IDS) - 1 : -1].tolist()


@pytest.mark.parametrize("scaling", [LLAMA3, LINEAR])
@pytest.mark.parametrize("hub", [False, True])
def test_scaled_positions_turn_as_plain_arithmetic_turns_them(tmp_path: Path, scaling: Mapping[str, object], hub: bool) -> None:
    tiny = Tiny.random("llama", tied=True, scaling=scaling)
    logits = graph_of(tiny, tmp_path, "fp32", hub=hub).logits(IDS)
    np.testing.assert_allclose(logits, tiny.logits(IDS), atol=3e-4)
    assert np.abs(logits - Tiny.random("llama", tied=True).logits(IDS)).max() > 0.1


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    ("precision", "bound", "likeness"),
    # Random weights have no slack that 4 bits could use: 9 % of each is noise here, where real models lose far less.
    [("int8", 0.12, 0.998), ("int4", 0.7, 0.88), ("fp16", 0.01, 0.9999), ("int4-fp16", 0.7, 0.88)],
)
def test_narrower_graphs_stay_near_plain_arithmetic(
    tmp_path: Path, family: str, precision: Precision, bound: float, likeness: float
) -> None:
    tiny = Tiny.random(family, tied=False)
    logits, wanted = graph_of(tiny, tmp_path, precision).logits(IDS), tiny.logits(IDS)
    assert off(logits, wanted) < bound
    assert np.corrcoef(logits.ravel(), wanted.ravel())[0, 1] > likeness


@pytest.mark.parametrize("precision", ["fp16", "int4-fp16"])
def test_graphs_for_cuda_pick_the_likeliest_tokens(tmp_path: Path, precision: Precision) -> None:
    found = graph_of(Tiny.random("qwen2", tied=True), tmp_path, precision).read(IDS)
    logits, scores, tokens = (found[name][0] for name in ("logits", "top_scores", "top_tokens"))
    assert (logits.dtype, scores.dtype, tokens.dtype) == (np.float32, np.float32, np.int64)
    np.testing.assert_array_equal(scores, -np.sort(-logits, axis=-1)[:, :TOP])
    np.testing.assert_array_equal(np.take_along_axis(logits, tokens.astype(np.int64), -1), scores)


@pytest.mark.parametrize("precision", list(FACTS))
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_every_graph_is_sound_and_has_what_the_interface_says(tmp_path: Path, family: str, precision: Precision) -> None:
    write(Tiny.random(family, tied=True), tmp_path, precision)
    path, facts = tmp_path / GRAPH_FILE, FACTS[precision]
    graph = onnx.load(str(path), load_external_data=False).graph
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(facts.element))
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.output]}
    assert {kinds[name] for name in kinds if name.startswith(("past.", "present."))} == {element}
    assert kinds["logits"] == onnx.TensorProto.FLOAT
    assert ("top_tokens" in kinds) == ("top_scores" in kinds) == facts.top
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    assert {tensor.data_type for tensor in graph.initializer} & floats == {element}
    # ONNX Runtime infers and compares every type and dimension before it looks for kernels, which CPUs lack for bfloat16.
    with pytest.raises(NotImplemented) if precision == "bf16" else nullcontext():
        InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("precision", QUANTISED)
def test_reading_in_pieces_gives_what_reading_at_once_gives(tmp_path: Path, precision: Precision) -> None:
    decoder = decoder_of(Tiny.random("qwen2", tied=False), tmp_path, precision, slots=2)
    whole = decoder.step(0, np.array([IDS]), [0])[0].all().copy()
    decoder.step(1, np.array([IDS[:6]]), [0])
    decoder.step(1, np.array([IDS[6:10]]), [6])
    np.testing.assert_allclose(decoder.step(1, np.array([IDS[10:]]), [10])[0].all(), whole, atol=1e-4)


@pytest.mark.parametrize("precision", QUANTISED)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_rows_of_a_ragged_batch_do_not_touch_each_other(tmp_path: Path, family: str, precision: Precision) -> None:
    decoder = decoder_of(Tiny.random(family, tied=True), tmp_path, precision, slots=3)
    prompts = [IDS[:4], IDS[:9], IDS[2:8]]
    alone = []
    for prompt in prompts:
        decoder.step(0, np.array([prompt]), [0])
        alone.append(decoder.step(0, np.array([[7]]), [len(prompt)])[0].all().copy())
    for slot, prompt in enumerate(prompts):
        decoder.step(slot, np.array([prompt]), [0])
    together = decoder.step(0, np.array([[7], [7], [7]]), [len(prompt) for prompt in prompts])
    np.testing.assert_allclose([scores.all() for scores in together], np.array(alone), atol=1e-4)


@pytest.mark.parametrize("precision", QUANTISED)
def test_a_token_of_zeros_is_computed_as_zeros(tmp_path: Path, precision: Precision) -> None:
    tiny = Tiny.random("llama", tied=False)
    tiny.tensors["token_embd.weight"][7] = 0
    graph = graph_of(tiny, tmp_path, precision)
    np.testing.assert_array_equal(graph.logits([7])[0], np.zeros(VOCABULARY, np.float32))
    assert np.isfinite(graph.logits([5, 7])).all()


def test_quantised_rows_are_within_half_a_step() -> None:
    matrix = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    table, scale = quantise_rows(matrix)
    assert np.abs(table * scale[:, None] - matrix).max() <= scale.max() * 0.501


@pytest.mark.parametrize(("width", "block"), [(64, 32), (96, 64), (576, 128)])
def test_blocks_of_four_bits_lose_less_than_plain_rounding(width: int, block: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((6, width)).astype(np.float32)
    values, scales, zeros = quantise_blocks(matrix, block)
    count = -(-width // block)
    assert values.shape == (6, count, block // 2)
    assert zeros.shape == (6, -(-count // 2))
    steps = unpacked(values.reshape(6, -1)).reshape(6, count, block) - unpacked(zeros)[:, :count, None]
    back = (steps * scales[..., None]).reshape(6, -1)[:, :width]
    largest = np.abs(np.pad(matrix, ((0, 0), (0, count * block - width))).reshape(6, count, block)).max(-1)
    step = np.repeat(largest / 7, block, axis=1)[:, :width]
    assert ((back - matrix) ** 2).mean() < 0.85 * ((np.rint(matrix / step) * step - matrix) ** 2).mean()


def test_a_block_that_four_bits_hold_is_kept() -> None:
    matrix = np.array([[(i % 16 - 5) * 0.25 for i in range(32)], [0.0] * 32], np.float32)
    values, scales, zeros = quantise_blocks(matrix, 32)
    back = (unpacked(values.reshape(2, -1)) - unpacked(zeros)[:, :1]) * scales
    np.testing.assert_allclose(back, matrix, atol=1e-6)


def unpacked(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Two values a byte, the low half first."""
    return np.array([[value for (byte,) in struct.iter_unpack("B", row.tobytes()) for value in (byte & 15, byte >> 4)]
                     for row in packed], np.float32)  # fmt: skip
