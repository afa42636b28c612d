"""Tiny random decoders: our graph, optimum's graph and transformers itself compute the same.

The largest difference seen on x86-64 with AVX-512 is 4e-6 of the largest logit; BOUND leaves room for other kernels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.llm.cpu_decoder import CpuDecoder
from services.llm.decoder import Decoder
from services.llm.engine import Engine
from services.llm.exported_decoder import ExportedDecoder
from services.llm.graph import write_graph
from services.llm.weights import UnsupportedModel, Weights
from tests.oracle.compare import Greedy, distance, greedy, logits_of
from tests.oracle.conftest import Exporter

BOUND = 3e-5
STEPS, CAPACITY = 16, 128
OURS = ["llama", "llama-all-heads-tied", "llama3-scaled", "mistral", "qwen2", "qwen2-tied", "qwen3", "qwen3-tied"]
OTHERS = ["gemma", "gemma2", "granite", "phi", "smollm3"]


class Reference:
    """What transformers computed: prompts, their logits, and the greedy continuations."""

    def __init__(self, families: Path, name: str) -> None:
        arrays = np.load(families / f"{name}.npz")
        count = sum(key.startswith("prompt.") for key in arrays)
        self.prompts: list[list[int]] = [arrays[f"prompt.{index}"].tolist() for index in range(count)]
        self.logits = [arrays[f"logits.{index}"] for index in range(count)]
        self.said: list[list[int]] = [arrays[f"said.{index}"].tolist() for index in range(count)]


def check(decoder: Decoder, reference: Reference) -> None:
    """The decoder computes the reference's logits and says what it says."""
    for slot, (prompt, logits, said) in enumerate(zip(reference.prompts, reference.logits, reference.said, strict=True)):
        assert distance(logits_of(decoder, prompt, slot=slot), logits) < BOUND
        assert greedy(decoder, prompt, STEPS, slot=slot) == said
    decoder.close()


def own(source: Path, folder: Path) -> CpuDecoder:
    """Our own graph of the source in float32."""
    weights = Weights(source)
    write_graph(weights, folder, precision="fp32", context=CAPACITY)
    return CpuDecoder(folder, weights.shape, slots=3, capacity=CAPACITY, threads=1, precision="fp32")


@pytest.mark.parametrize("name", [*OURS, *OTHERS])
def test_an_exported_graph_computes_what_transformers_computes(families: Path, exported: Exporter, name: str) -> None:
    decoder = ExportedDecoder(exported(families / name), slots=3, capacity=CAPACITY, threads=1)
    check(decoder, Reference(families, name))


@pytest.mark.parametrize("name", OURS)
def test_our_graph_computes_what_transformers_computes(families: Path, tmp_path: Path, name: str) -> None:
    check(own(families / name, tmp_path), Reference(families, name))


@pytest.mark.parametrize("name", OURS)
def test_our_graph_computes_what_the_exported_one_computes(
    families: Path, exported: Exporter, tmp_path: Path, name: str
) -> None:
    ours = own(families / name, tmp_path)
    theirs = ExportedDecoder(exported(families / name), slots=3, capacity=CAPACITY, threads=1)
    ids = np.random.default_rng(7).integers(3, 300, 100).tolist()
    assert distance(logits_of(ours, ids), logits_of(theirs, ids)) < BOUND
    assert greedy(ours, ids, STEPS) == greedy(theirs, ids, STEPS)


@pytest.mark.parametrize("name", OTHERS)
def test_a_family_that_we_do_not_build_is_served_by_the_engine(
    families: Path, exported: Exporter, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UnsupportedModel):
        own(families / name, tmp_path)
    reference = Reference(families, name)
    engine = Engine(ExportedDecoder(exported(families / name), slots=2, capacity=CAPACITY, threads=1))
    guides = [Greedy(STEPS) for _ in reference.prompts]
    for done in [engine.submit(prompt, guide) for prompt, guide in zip(reference.prompts, guides, strict=True)]:
        done.result(60)
    engine.close()
    assert [guide.said for guide in guides] == reference.said
