"""A GGUF file as a folder that transformers loads: the same tensors, by the other names, rotary pairs put apart again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from infra.training.base import NoBase, base, export, folder_of
from services.llm.about import about_folder
from services.llm.tokenizer import Vocabulary, tokenizer_from
from services.llm.weights import UnsupportedModel, Weights
from services.llm.weights.safetensors import hugging_face_name
from tests.support.adapters import write_adapter
from tests.support.tiny_model import Tiny


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_tensor_is_what_hugging_face_has(tmp_path: Path, family: str, tied: bool) -> None:
    from safetensors.numpy import load_file

    tiny = Tiny.random(family, tied=tied)
    source = tiny.write(tmp_path / "tiny.gguf")
    (folder := tmp_path / "made").mkdir()
    export(source, folder)
    found, wanted = load_file(folder / "model.safetensors"), tiny.hub_tensors()
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_the_config_tells_the_same_shape(tmp_path: Path, family: str) -> None:
    source = Tiny.random(family, tied=False).write(tmp_path / "tiny.gguf")
    (folder := tmp_path / "made").mkdir()
    export(source, folder)
    ours, theirs = Weights(source), Weights(folder)
    apart = {"interleaved_rope": False}
    assert ours.shape.as_dict() | apart == theirs.shape.as_dict() | apart
    np.testing.assert_array_equal(ours.rotary.frequencies, theirs.rotary.frequencies)
    config = json.loads((folder / "config.json").read_text())
    assert (config["tie_word_embeddings"], config["dtype"]) == (False, "float32")


def test_the_tokenizer_goes_along(tmp_path: Path) -> None:
    source = Tiny.random("qwen2", tied=True).write(tmp_path / "tiny.gguf")
    (folder := tmp_path / "made").mkdir()
    export(source, folder)
    text = "hello the <|im_end|> 你好"
    ours, theirs = Vocabulary(tokenizer_from(Weights(source))), Vocabulary(about_folder(folder).tokenizer)
    assert theirs.encode(text) == ours.encode(text)
    assert theirs.special("<|im_end|>") == ours.special("<|im_end|>")


def test_bfloat16_halves_the_file_and_rounds(tmp_path: Path) -> None:
    source = Tiny.random("llama", tied=True).write(tmp_path / "tiny.gguf")
    sizes = {}
    for kind in ("fp32", "bf16"):
        (folder := tmp_path / kind).mkdir()
        export(source, folder, kind=kind)  # type: ignore[arg-type]
        sizes[kind] = Weights(folder)["token_embd.weight"]
    np.testing.assert_allclose(sizes["bf16"], sizes["fp32"], rtol=2**-8)
    assert not np.array_equal(sizes["bf16"], sizes["fp32"])


@pytest.mark.parametrize("kind", ["llama3", "linear"])
def test_scaled_rotary_positions_are_refused(tmp_path: Path, kind: str) -> None:
    scaling = {
        "rope_type": kind, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    source = Tiny.random("llama", tied=True, scaling=scaling).write(tmp_path / "tiny.gguf")
    (folder := tmp_path / "made").mkdir()
    with pytest.raises(UnsupportedModel, match="safetensors folder"):
        export(source, folder)


def test_names_lead_there_and_back(tmp_path: Path) -> None:
    tiny = Tiny.random("qwen2", tied=False)
    tiny.write_folder(tmp_path / "hub")
    assert sorted(map(hugging_face_name, tiny.tensors)) == sorted(tiny.hub_tensors())


def test_a_model_that_is_not_here_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoBase) as refused:
        base("smollm2-135m", tmp_path)
    assert refused.value.hint == "milepost models pull smollm2-135m"
    with pytest.raises(NoBase, match="cannot be trained"):
        base("multilingual-e5-small", tmp_path)


def test_a_model_is_exported_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "smollm2-135m").mkdir(parents=True)
    Tiny.random("llama", tied=True).write(home / "smollm2-135m" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    model = base("smollm2-135m", home)
    assert (model.dequantised, model.weights) == (True, "F32")
    folder = folder_of(model, home)
    first = (folder / "config.json").stat().st_mtime_ns
    assert folder_of(model, home) == folder
    assert (folder / "config.json").stat().st_mtime_ns == first

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infra.training.base.export", broken)
    with pytest.raises(NoBase, match="No space left"):
        folder_of(model, home, kind="bf16")
    assert [path.name for path in folder.parent.glob(".base-*")] == []


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "smollm2-135m").mkdir(parents=True)
    Tiny.random("llama", tied=True).write(home / "smollm2-135m" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    monkeypatch.setattr("infra.training.base.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(NoBase, match="no room"):
        folder_of(base("smollm2-135m", home), home)


def test_an_adapter_is_no_base(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", Tiny.random("llama", tied=True))
    with pytest.raises(UnsupportedModel):
        export(folder, tmp_path)
