"""An adapter and its base as one: the numbers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from infra.models.adapters import Trained
from infra.training.adapters import BadAdapter, WrongBase, narrow, read
from infra.training.base import Base, NoBase
from infra.training.merging import merge
from services.llm.chat import CHATML
from services.llm.weights import Weights
from tests.support.adapters import ALPHA, DOWN, QUERY, RANK, write_adapter
from tests.support.tiny_model import Tiny

SHA = "a" * 64
TINY = Tiny.random("llama", tied=True)


@pytest.fixture
def model(tmp_path: Path) -> Base:
    return Base("tiny", SHA, TINY.write(tmp_path / "tiny.gguf"), CHATML, "mit", ("en",), "F32")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", TINY)


def matrices(adapter: Path, module: str) -> tuple[np.ndarray, np.ndarray]:
    from safetensors.numpy import load_file

    held = load_file(adapter / "adapter_model.safetensors")
    return held[f"base_model.model.{module}.lora_A.weight"], held[f"base_model.model.{module}.lora_B.weight"]


def test_weights_that_the_adapter_changes_are_w_plus_s_b_a_and_others_stay(model: Base, adapter: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    heard: list[tuple[int, int]] = []
    merged = load_file(merge(adapter, model, tmp_path / "out", on_tensor=lambda *at: heard.append(at)) / "model.safetensors")
    for name, before in TINY.hub_tensors().items():
        if (module := name.removesuffix(".weight")) in (QUERY, DOWN):
            down, up = matrices(adapter, module)
            np.testing.assert_allclose(merged[name], before + ALPHA / RANK * (up @ down), rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(merged[name], before)
    assert heard[-1] == (len(merged), len(merged))
    assert Weights(tmp_path / "out").shape.layers == 2


def test_rank_stabilised_adapters_scale_by_the_root(model: Base, tmp_path: Path) -> None:
    plain, stable = (write_adapter(tmp_path / str(on), TINY, use_rslora=on) for on in (False, True))
    np.testing.assert_allclose(read(stable).delta(QUERY), read(plain).delta(QUERY) * np.sqrt(RANK), rtol=1e-6)


def test_a_folder_of_safetensors_is_merged_with_all_that_lies_beside(adapter: Path, tmp_path: Path) -> None:
    folder = TINY.write_folder(tmp_path / "hub", kind="BF16")
    (folder / "chat_template.jinja").write_text("{{ x }}")
    model = Base("tiny", SHA, folder, CHATML, "mit", (), "safetensors")
    out = merge(adapter, model, tmp_path / "out", kind="bf16")
    assert (out / "chat_template.jinja").read_text() == "{{ x }}"
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def card(base_sha256: str) -> Trained:
    return Trained(name="tuned", base="tiny", base_sha256=base_sha256)


def test_an_adapter_of_another_base_is_refused(model: Base, adapter: Path, tmp_path: Path) -> None:
    card("b" * 64).write(adapter)
    with pytest.raises(WrongBase, match="bbbbbbbbbbbb"):
        merge(adapter, model, tmp_path / "out")
    card(SHA).write(adapter)
    merge(adapter, model, tmp_path / "out")


def test_an_adapter_of_other_sizes_is_refused(model: Base, tmp_path: Path) -> None:
    wide = write_adapter(tmp_path / "wide", Tiny.random("llama", tied=True, feed_forward=128))
    with pytest.raises(WrongBase, match="down_proj of \\(64, 128\\), which has \\(64, 96\\)"):
        merge(wide, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_modules_that_are_not_there_is_refused(model: Base, tmp_path: Path) -> None:
    untied = write_adapter(tmp_path / "head", Tiny.random("llama", tied=False), modules=("lm_head",))
    with pytest.raises(WrongBase, match="lm_head, which tiny has not"):
        merge(untied, model, tmp_path / "out")


@pytest.mark.parametrize(("key", "value"), [
    ("use_dora", True), ("fan_in_fan_out", True), ("modules_to_save", ["lm_head"]), ("bias", "all"), ("rank_pattern", {"q": 2}),
    ("peft_type", "IA3"), ("r", 0), ("lora_alpha", "8"), ("r", 5),
])  # fmt: skip
def test_what_cannot_be_merged_is_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(BadAdapter):
        read(write_adapter(tmp_path / "adapter", TINY, **{key: value}))


def test_broken_files_are_refused(adapter: Path) -> None:
    whole = (adapter / "adapter_model.safetensors").read_bytes()
    for broken in (b"", whole[:100], whole[:-7], b"\xff" * 64):
        (adapter / "adapter_model.safetensors").write_bytes(broken)
        with pytest.raises(BadAdapter, match="cannot be read"):
            read(adapter)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(BadAdapter, match=r"adapter_config\.json cannot be read"):
        read(adapter)


def test_numbers_that_are_none_are_refused(adapter: Path) -> None:
    from safetensors.numpy import load_file, save_file

    held = load_file(adapter / "adapter_model.safetensors")
    held[f"base_model.model.{QUERY}.lora_A.weight"][0, 0] = np.nan
    save_file(held, adapter / "adapter_model.safetensors")
    with pytest.raises(BadAdapter, match="no number"):
        read(adapter)


def test_a_half_of_a_pair_is_refused(adapter: Path) -> None:
    from safetensors.numpy import load_file, save_file

    held = load_file(adapter / "adapter_model.safetensors")
    del held[f"base_model.model.{QUERY}.lora_B.weight"]
    save_file(held, adapter / "adapter_model.safetensors")
    with pytest.raises(BadAdapter, match="only one of"):
        read(adapter)


def test_nothing_is_overwritten(model: Base, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(NoBase, match="there already"):
        merge(adapter, model, tmp_path / "out")


def test_a_narrowed_adapter_is_half_as_large_and_nearly_the_same(adapter: Path, tmp_path: Path) -> None:
    other = write_adapter(tmp_path / "other", TINY)
    narrow(adapter / "adapter_model.safetensors", other / "adapter_model.safetensors")
    np.testing.assert_allclose(read(other).pairs[QUERY][0], read(adapter).pairs[QUERY][0], rtol=2**-8)
    sizes = [(folder / "adapter_model.safetensors").stat().st_size for folder in (adapter, other)]
    assert sizes[1] < 0.6 * sizes[0]
