"""GGUF files: transformers' own dequantisation, exported by optimum, computes what our graph of the same file computes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tokenizers import decoders

from infra.models.catalogue import find
from infra.models.fetch import model_folder
from services.llm.about import about_folder
from services.llm.cpu_decoder import CpuDecoder
from services.llm.exported_decoder import ExportedDecoder
from services.llm.graph import write_graph
from services.llm.tokenizer import Vocabulary, tokenizer_from
from services.llm.weights import Weights
from tests.oracle.compare import distance, greedy, logits_of
from tests.oracle.conftest import Exporter

# Thirty layers in float32 instead of two.
BOUND = 3e-5
STEPS = 16
TEXTS = (
    "<|im_start|>user\nWhich servers in cn-hangzhou run out of disk, and since when?<|im_end|>\n<|im_start|>assistant\n",
    "def median(values: list[float]) -> float:\n    ordered = sorted(values)\n",
    "Water boils at a lower temperature on a mountain, because",
)


@pytest.fixture
def smollm2(models: Path) -> Path:
    """The file of SmolLM2-135M, as `milepost models pull` leaves it."""
    path = model_folder("smollm2-135m", models) / find("smollm2-135m").file.name
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{path} is missing: milepost models pull smollm2-135m")
        pytest.skip("SmolLM2-135M is not here: milepost models pull smollm2-135m")
    return path


def test_smollm2_says_the_same_in_both_graphs(smollm2: Path, exported: Exporter, tmp_path: Path) -> None:
    weights = Weights(smollm2)
    vocabulary = Vocabulary(tokenizer_from(weights))
    prompts = [vocabulary.encode(text) for text in TEXTS]
    write_graph(weights, tmp_path, precision="fp32", context=256)
    tokenizer = about_folder(exported(smollm2)).tokenizer
    assert isinstance(tokenizer.decoder, decoders.ByteLevel)
    assert [Vocabulary(tokenizer).encode(text) for text in TEXTS] == prompts
    theirs = ExportedDecoder(exported(smollm2), slots=1, capacity=256, threads=2)
    expected = [(logits_of(theirs, prompt), greedy(theirs, prompt, STEPS)) for prompt in prompts]
    theirs.close()
    ours = CpuDecoder(tmp_path, weights.shape, slots=1, capacity=256, threads=2, precision="fp32")
    for prompt, (logits, said) in zip(prompts, expected, strict=True):
        far = distance(logits_of(ours, prompt), logits)
        print(f"{len(prompt)} tokens: {far:.1e} of {np.abs(logits).max():.1f}")
        assert far < BOUND
        assert greedy(ours, prompt, STEPS) == said
    ours.close()
