from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from services.llm.weights import UnsupportedModel, Weights
from services.llm.weights.rotary import plain, scaled
from tests.support.reference_decoder import llama3_divisors
from tests.support.tiny_model import Tiny

Array = NDArray[np.float32]
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
WIDE = "blk.0.ffn_down.weight"


def wide_tiny() -> Tiny:
    """With a matrix whose rows are as wide as a block of the K-quants."""
    return Tiny.random("llama", tied=True, feed_forward=256)


@pytest.mark.parametrize(
    ("kind", "bound"),
    [(Kind.F16, 1e-3), (Kind.BF16, 4e-3), (Kind.Q8_0, 4e-3), (Kind.Q5_0, 0.07), (Kind.Q5_1, 0.05), (Kind.Q4_0, 0.14)],
)
def test_a_packed_tensor_is_read_as_what_was_packed(tmp_path: Path, kind: Kind, bound: float) -> None:
    tiny = wide_tiny()
    matrix = tiny.tensors[WIDE]
    packed = gguf.quants.quantize(matrix, kind)
    read = Weights(tiny.write(tmp_path / "tiny.gguf", packed={WIDE: (packed, kind)}))[WIDE]
    assert read.dtype == np.float32
    assert 0 < np.abs(read - matrix).max() < bound


def halves(data: bytes) -> list[int]:
    """The low halves of the bytes, then the high ones."""
    return [byte & 15 for byte in data] + [byte >> 4 for byte in data]


def scales_and_minima(data: bytes) -> list[tuple[int, int]]:
    """The eight 6-bit pairs of Q4_K and Q5_K: four whole ones, then four whose upper bits lie with the first four."""
    first = [(data[i] & 63, data[i + 4] & 63) for i in range(4)]
    second = [((data[i + 8] & 15) | (data[i] >> 6 << 4), (data[i + 8] >> 4) | (data[i + 4] >> 6 << 4)) for i in range(4)]
    return first + second


def half(data: bytes) -> float:
    return float(np.frombuffer(data, "<f2")[0])


def q4_k(block: bytes) -> list[float]:
    scale, least, pairs = half(block[:2]), half(block[2:4]), scales_and_minima(block[4:16])
    values = [value for part in range(4) for value in halves(block[16 + 32 * part : 48 + 32 * part])]
    return [scale * pairs[i // 32][0] * value - least * pairs[i // 32][1] for i, value in enumerate(values)]


def q5_k(block: bytes) -> list[float]:
    scale, least, pairs, fifth = half(block[:2]), half(block[2:4]), scales_and_minima(block[4:16]), block[16:48]
    low = [value for part in range(4) for value in halves(block[48 + 32 * part : 80 + 32 * part])]
    values = [value + ((fifth[i % 32] >> (i // 32) & 1) << 4) for i, value in enumerate(low)]
    return [scale * pairs[i // 32][0] * value - least * pairs[i // 32][1] for i, value in enumerate(values)]


def q6_k(block: bytes) -> list[float]:
    scale = half(block[208:210])
    found = []
    for i in range(256):
        side, row, place = i // 128, i % 128 // 32, i % 32
        byte = block[64 * side + 32 * (row % 2) + place]
        low = byte >> 4 if row > 1 else byte & 15
        high = block[128 + 32 * side + place] >> 2 * row & 3
        step = int(np.int8(np.uint8(block[192 + i // 16])))
        found.append(scale * step * ((low | high << 4) - 32))
    return found


@pytest.mark.parametrize(
    ("kind", "size", "halves_at", "unpack"),
    [(Kind.Q4_K, 144, (0, 2), q4_k), (Kind.Q5_K, 176, (0, 2), q5_k), (Kind.Q6_K, 210, (208,), q6_k)],
)
def test_the_k_quants_are_read_by_their_layout(
    tmp_path: Path, kind: Kind, size: int, halves_at: tuple[int, ...], unpack: Callable[[bytes], list[float]]
) -> None:
    tiny, random = wide_tiny(), np.random.default_rng(3)
    blocks = random.integers(0, 256, (64, size), dtype=np.uint8)
    for at in halves_at:  # random bytes, but for factors that are numbers
        blocks[:, at : at + 2] = random.uniform(0.001, 0.01, (64, 1)).astype("<f2").view(np.uint8)
    weights = Weights(tiny.write(tmp_path / "tiny.gguf", packed={WIDE: (blocks, kind)}))
    wanted = np.array([unpack(row.tobytes()) for row in blocks], np.float32)
    np.testing.assert_allclose(weights[WIDE], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(list(weights.pieces(WIDE, 10))), weights[WIDE])


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_of_safetensors_has_the_tensors_of_the_gguf_file(tmp_path: Path, family: str, shards: int) -> None:
    tiny = Tiny.random(family, tied=False)
    file, folder = Weights(tiny.write(tmp_path / "tiny.gguf")), Weights(tiny.write_folder(tmp_path / "hub", shards=shards))
    assert folder.shape.layers == file.shape.layers
    assert not folder.shape.interleaved_rope
    for name, tensor in tiny.tensors.items():
        if family != "llama" or ("attn_q" not in name and "attn_k" not in name):
            np.testing.assert_array_equal(folder[name], tensor)
        np.testing.assert_array_equal(file[name], tensor)
    assert "blk.9.attn_q.weight" not in folder


@pytest.mark.parametrize(("kind", "bound"), [("F16", 2**-11), ("BF16", 2**-8)])
def test_narrow_safetensors_are_widened(tmp_path: Path, kind: str, bound: float) -> None:
    tiny = Tiny.random("qwen2", tied=True)
    read = Weights(tiny.write_folder(tmp_path / "hub", kind=kind))["token_embd.weight"]
    wanted = tiny.tensors["token_embd.weight"]
    assert 0 < np.abs(read - wanted).max() <= bound * np.abs(wanted).max()


def test_a_tied_folder_heeds_no_table_of_its_own(tmp_path: Path) -> None:
    tiny = Tiny.random("llama", tied=False)
    assert "output.weight" not in Weights(tiny.write_folder(tmp_path / "hub", config={"tie_word_embeddings": True}))


@pytest.mark.parametrize("length", [3, 20, 500, 5_000, -5_000, -1])
def test_a_gguf_file_that_is_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = Tiny.random("llama", tied=True).write(tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UnsupportedModel, match="GGUF"):
        Weights(path)


def test_broken_bytes_of_a_gguf_header_are_refused_or_read(tmp_path: Path) -> None:
    whole = bytearray(Tiny.random("llama", tied=True).write(tmp_path / "tiny.gguf").read_bytes())
    random, path, refused = np.random.default_rng(1), tmp_path / "broken.gguf", 0
    for place in random.integers(4, 900, 60):
        broken = whole.copy()
        broken[place] ^= int(random.integers(1, 256))
        path.write_bytes(broken)
        try:
            Weights(path)
        except UnsupportedModel:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("length", [3, 200, -500])
def test_safetensors_that_are_cut_short_are_refused(tmp_path: Path, length: int) -> None:
    folder = Tiny.random("qwen3", tied=True).write_folder(tmp_path / "hub")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UnsupportedModel, match=r"model\.safetensors"):
        Weights(folder)


def test_a_shard_that_is_missing_is_said(tmp_path: Path) -> None:
    folder = Tiny.random("qwen2", tied=True).write_folder(tmp_path / "hub", shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UnsupportedModel, match="00002"):
        Weights(folder)


def test_an_index_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    folder = Tiny.random("qwen2", tied=True).write_folder(tmp_path / "hub", shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(UnsupportedModel, match="outside"):
        Weights(folder)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "gemma"}, "gemma"),
        ({"model_type": "mistral", "sliding_window": 32}, "window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "window"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, "dynamic"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"partial_rotary_factor": 0.5}, "part of each head"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        ({"num_key_value_heads": 3}, "cannot share"),
        ({"num_hidden_layers": 3}, r"blk\.2"),
        ({"hidden_size": 80}, "instead of"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps"),
        ({"head_dim": 24}, "multiple of 16"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
    ],
)
def test_a_config_that_the_graph_does_not_compute_is_refused(tmp_path: Path, config: dict[str, object], why: str) -> None:
    folder = Tiny.random("llama", tied=True).write_folder(tmp_path / "hub", config=config)
    with pytest.raises(UnsupportedModel, match=why):
        Weights(folder)


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"expert_count": 8}, "experts"),
        ({"attention.sliding_window": 32}, "window"),
        ({"rope.dimension_count": 8}, "part of each head"),
        ({"rope.scaling.type": "longrope"}, "longrope"),
        ({"block_count": 3}, r"blk\.2"),
    ],
)
def test_metadata_that_the_graph_does_not_compute_are_refused(tmp_path: Path, metadata: dict[str, int | str], why: str) -> None:
    with pytest.raises(UnsupportedModel, match=why):
        Weights(Tiny.random("llama", tied=True).write(tmp_path / "tiny.gguf", metadata=metadata))


def test_a_tensor_that_the_graph_would_not_use_is_refused(tmp_path: Path) -> None:
    tiny = Tiny.random("llama", tied=True)
    tiny.tensors["blk.0.attn_sinks.weight"] = np.zeros(4, np.float32)
    with pytest.raises(UnsupportedModel, match="attn_sinks"):
        Weights(tiny.write(tmp_path / "tiny.gguf"))


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    tiny = Tiny.random("llama", tied=True)
    tiny.tensors["blk.1.ffn_norm.weight"][3] = np.nan
    weights = Weights(tiny.write(tmp_path / "tiny.gguf"))
    with pytest.raises(UnsupportedModel, match=r"blk\.1\.ffn_norm"):
        weights["blk.1.ffn_norm.weight"]


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"not a model at all" * 10)
    with pytest.raises(UnsupportedModel, match="no\\.gguf"):
        Weights(path)


def test_a_family_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="gemma"):
        Weights(Tiny("gemma", True, Tiny.random("llama", tied=True).tensors).write(tmp_path / "tiny.gguf"))


def test_llama3_divides_the_slow_pairs(tmp_path: Path) -> None:
    tiny = Tiny.random("llama", tied=True, scaling=LLAMA3)
    for weights in (Weights(tiny.write(tmp_path / "tiny.gguf")), Weights(tiny.write_folder(tmp_path / "hub"))):
        wanted = plain(10_000.0, 16) / llama3_divisors(10_000.0, 16, LLAMA3)
        np.testing.assert_allclose(weights.rotary.frequencies, wanted, rtol=1e-6)
    assert len({round(value, 9) for value in llama3_divisors(10_000.0, 16, LLAMA3)}) > 2


def test_transformers_5_tells_the_base_with_the_scaling(tmp_path: Path) -> None:
    config = {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    weights = Weights(Tiny.random("llama", tied=True).write_folder(tmp_path / "hub", config=config))
    np.testing.assert_allclose(weights.rotary.frequencies, 500.0 ** -(np.arange(8) / 8))


def test_yarn_keeps_fast_pairs_divides_slow_ones_and_sharpens() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    rotary = scaled(1e6, 64, scaling, 131072)
    ratio = rotary.frequencies / plain(1e6, 64)
    turned = 32768 * plain(1e6, 64) / (2 * np.pi)
    np.testing.assert_allclose(ratio[turned > 40], 1)
    np.testing.assert_allclose(ratio[turned < 0.8], 1 / 4)
    assert (np.diff(ratio) <= 0).all()
    assert rotary.magnitude == pytest.approx(0.1 * np.log(4) + 1)
