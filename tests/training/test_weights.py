"""Our export and our merge beside transformers and peft: the same tokens, the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.settings import load
from infra.training.base import Base, base, export, folder_of
from infra.training.merging import merge
from services.llm.chat import CHATML
from services.llm.cpu_decoder import CpuDecoder
from services.llm.graph import write_graph
from services.llm.tokenizer import Vocabulary, tokenizer_from
from services.llm.weights import Weights
from tests.oracle.compare import logits_of
from tests.support.tiny_model import Tiny
from tests.training.conftest import Oracle

TEXTS = ("The capital of France is Paris, and the capital of", "def add(a, b):\n    return", "你好，今天天气怎么样？")


def check_logits(source: Path, folder: Path, oracle: Oracle, scratch: Path) -> None:
    """A source as our fp32 graph has it says what transformers says of the folder."""
    ids = oracle("logits", folder, scratch / "logits.npz", *TEXTS)["ids"]
    weights = Weights(source)
    vocabulary = Vocabulary(tokenizer_from(weights))
    assert ids == [vocabulary.encode(text) for text in TEXTS]
    (graph := scratch / "graph").mkdir()
    write_graph(weights, graph, precision="fp32", context=256)
    decoder = CpuDecoder(graph, weights.shape, slots=1, capacity=256, threads=1, precision="fp32")
    theirs = np.load(scratch / "logits.npz")
    for at, text in enumerate(TEXTS):
        np.testing.assert_allclose(logits_of(decoder, vocabulary.encode(text)), theirs[str(at)], atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_tiny_base_says_the_same_in_transformers(oracle: Oracle, tmp_path: Path, family: str, tied: bool) -> None:
    source = Tiny.random(family, tied=tied).write(tmp_path / "tiny.gguf")
    (folder := tmp_path / "base").mkdir()
    export(source, folder)
    check_logits(source, folder, oracle, tmp_path)


def test_the_smallest_model_says_the_same_in_transformers(oracle: Oracle, tmp_path: Path) -> None:
    home = load({}).settings.model.home
    if not (home / "smollm2-135m").is_dir():
        pytest.skip("smollm2-135m is not here: milepost models pull smollm2-135m")
    model = base("smollm2-135m", home)
    check_logits(model.source, folder_of(model, home), oracle, tmp_path)


@pytest.mark.parametrize("scaling", ["plain", "stable"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_merge_is_pefts(oracle: Oracle, tmp_path: Path, family: str, scaling: str) -> None:
    source = Tiny.random(family, tied=True).write(tmp_path / "tiny.gguf")
    (folder := tmp_path / "base").mkdir()
    export(source, folder)
    oracle("tune", folder, tmp_path / "adapter", scaling)
    oracle("merge", folder, tmp_path / "adapter", tmp_path / "theirs")
    model = Base("tiny", "a" * 64, source, CHATML, "mit", (), "F32")
    ours, theirs = Weights(merge(tmp_path / "adapter", model, tmp_path / "ours")), Weights(tmp_path / "theirs")
    for name in Tiny.random(family, tied=True).tensors:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-7, err_msg=name)
