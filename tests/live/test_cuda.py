"""The decoder for GPUs on a real one; without one, that CUDA is refused, and that a real model's fp16 graph says the same.

On a machine with an NVIDIA driver: install the locked `gpu` packages, then `pytest tests/live/test_cuda.py`. No model is
fetched for it but SmolLM2-135M, whose test alone needs one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.models.fetch import ModelUnavailable, ensure
from infra.settings import load
from services.llm.cpu_decoder import CpuDecoder
from services.llm.cuda_decoder import CudaDecoder, DeviceTooSmall
from services.llm.decoder import Decoder
from services.llm.decoders import open_decoder
from services.llm.device import CPU, CUDA, cuda_answers
from services.llm.graph import write_graph
from services.llm.interface import Precision
from services.llm.session import ProviderMissing
from services.llm.weights import Shape, Weights
from tests.support.tiny_model import VOCABULARY, Tiny

CAPACITY, SLOTS = 128, 256
IDS = [5, 77, 3, 200, 140, 9, 61, 30, 30, 12, 255]

gpu = pytest.mark.skipif(not cuda_answers(), reason="needs onnxruntime-gpu and an NVIDIA driver that answers nvidia-smi")


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return Tiny.random("qwen2", tied=False)


@pytest.fixture(scope="module")
def folders(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    weights = Weights(tiny.write(folder / "tiny.gguf"))
    made: dict[Precision, Path] = {}
    for precision in ("fp16", "bf16", "int4-fp16", "int8"):
        made[precision] = folder / precision
        made[precision].mkdir()
        write_graph(weights, made[precision], precision=precision, context=CAPACITY)
    return made


@pytest.fixture(scope="module")
def shape(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Shape:
    return Weights(tiny.write(tmp_path_factory.mktemp("shape") / "tiny.gguf")).shape


def tokens(*rows: Sequence[int]) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


def greedy(decoder: Decoder, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """What follows each prompt, all of them stepped together."""
    said = [[decoder.step(slot, tokens(prompt), [0])[0].best()] for slot, prompt in enumerate(prompts)]
    for step in range(count - 1):
        past = [len(prompt) + step for prompt in prompts]
        scores = decoder.step(0, tokens(*[[row[-1]] for row in said]), past)
        for row, each in zip(said, scores, strict=True):
            row.append(each.best())
    return said


def prompts_of(count: int) -> list[list[int]]:
    random = np.random.default_rng(count)
    return [random.integers(VOCABULARY, size=random.integers(2, 20)).tolist() for _ in range(count)]


@pytest.mark.skipif(cuda_answers(), reason="a GPU answers")
def test_cuda_is_refused_where_there_is_none(folders: dict[Precision, Path], shape: Shape) -> None:
    for provider in ("cuda", "auto"):
        with pytest.raises(ProviderMissing, match="CUDAExecutionProvider"):
            open_decoder(folders["fp16"], shape, "fp16", slots=2, capacity=CAPACITY, provider=provider)
    with pytest.raises(ProviderMissing, match="CUDAExecutionProvider"):
        CudaDecoder(folders["fp16"], shape, slots=2, capacity=CAPACITY, device=CUDA)


@gpu
@pytest.mark.parametrize(("precision", "bound"), [("fp16", 0.05), ("bf16", 0.4)])
def test_logits_are_near_plain_arithmetic(
    folders: dict[Precision, Path], shape: Shape, tiny: Tiny, precision: Precision, bound: float
) -> None:
    decoder = CudaDecoder(folders[precision], shape, slots=4, capacity=CAPACITY, precision=precision)
    assert decoder.provider == "CUDAExecutionProvider"
    wanted = tiny.logits(IDS)
    np.testing.assert_allclose([each.all() for each in decoder.step(2, tokens(IDS), [0], every=True)], wanted, atol=bound)
    for place, token in enumerate(IDS):  # the first of these records, the others play it again
        scores = decoder.step(1, tokens([token]), [place])[0]
        np.testing.assert_allclose(scores.all(), wanted[place], atol=bound)
        np.testing.assert_allclose(scores.top()[1], np.sort(wanted[place])[::-1][:64], atol=bound)


@gpu
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 63, 64, 256])
def test_recorded_steps_say_what_plain_ones_say(folders: dict[Precision, Path], shape: Shape, rows: int) -> None:
    prompts = prompts_of(rows)
    said = [
        greedy(CudaDecoder(folders["fp16"], shape, slots=SLOTS, capacity=CAPACITY, graphs=graphs), prompts, 24)
        for graphs in (True, False)
    ]
    assert said[0] == said[1]


@gpu
@pytest.mark.parametrize("rows", [1, 5, 256])
def test_a_gpu_says_what_a_cpu_says(folders: dict[Precision, Path], shape: Shape, rows: int) -> None:
    prompts = prompts_of(rows)
    cuda = CudaDecoder(folders["fp16"], shape, slots=rows, capacity=CAPACITY)
    cpu = CpuDecoder(folders["fp16"], shape, slots=rows, capacity=CAPACITY, threads=1, precision="fp16")
    for slot, prompt in enumerate(prompts):
        found, wanted = (decoder.step(slot, tokens(prompt), [0])[0].all() for decoder in (cuda, cpu))
        np.testing.assert_allclose(found, wanted, atol=0.05)
    past = [len(prompt) for prompt in prompts]
    for _ in range(4):
        step = tokens(*[[7]] * rows)
        for found_, wanted_ in zip(cuda.step(0, step, past), cpu.step(0, step, past), strict=True):
            np.testing.assert_allclose(found_.all(), wanted_.all(), atol=0.05)
        past = [length + 1 for length in past]


@gpu
def test_slots_are_forked_and_stepped_beside_each_other(folders: dict[Precision, Path], shape: Shape) -> None:
    decoder = CudaDecoder(folders["fp16"], shape, slots=9, capacity=CAPACITY)
    decoder.step(0, tokens(IDS), [0])
    for slot in range(1, 9):
        decoder.fork(0, slot, len(IDS))
    alone = decoder.step(8, tokens([7]), [len(IDS)])[0].all()
    for first, rows in ((0, 1), (3, 2), (1, 4), (0, 8), (5, 3), (0, 9)):
        for each in decoder.step(first, tokens(*[[7]] * rows), [len(IDS)] * rows):
            np.testing.assert_allclose(each.all(), alone, atol=0.02)


@gpu
def test_a_decoder_made_in_one_thread_steps_in_another(folders: dict[Precision, Path], shape: Shape) -> None:
    decoder = CudaDecoder(folders["fp16"], shape, slots=2, capacity=CAPACITY)
    said: list[list[list[int]]] = []
    worker = threading.Thread(target=lambda: said.append(greedy(decoder, [IDS, IDS[:4]], 12)))
    worker.start()
    worker.join()
    assert said[0] == greedy(CudaDecoder(folders["fp16"], shape, slots=2, capacity=CAPACITY, graphs=False), [IDS, IDS[:4]], 12)


@gpu
def test_a_graph_with_parts_for_cpus_is_refused(folders: dict[Precision, Path], shape: Shape, tmp_path: Path) -> None:
    with pytest.raises(ProviderMissing):
        # The int8 graph's products have no kernel for CUDA.
        CudaDecoder(folders["int8"], shape, slots=1, capacity=CAPACITY, precision="fp16")


@gpu
def test_more_streams_than_the_gpu_holds_are_refused(folders: dict[Precision, Path], shape: Shape) -> None:
    with pytest.raises(DeviceTooSmall, match="GB of GPU memory"):
        CudaDecoder(folders["fp16"], shape, slots=256, capacity=16_000_000)


async def test_a_real_models_fp16_graph_says_the_same_in_both_decoders(tmp_path: Path) -> None:
    try:
        there = await ensure("smollm2-135m", home=load().settings.model.home)
    except ModelUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    weights = Weights(next(there.glob("*.gguf")))
    write_graph(weights, tmp_path, precision="fp16", context=256)
    device = CUDA if cuda_answers() else CPU
    decoders: list[Decoder] = [
        CudaDecoder(tmp_path, weights.shape, slots=4, capacity=256, device=device),
        CpuDecoder(tmp_path, weights.shape, slots=4, capacity=256, threads=1, precision="fp16"),
    ]
    prompts = [np.random.default_rng(slot).integers(weights.shape.vocabulary, size=(1, 9 + slot)) for slot in range(3)]
    for slot, prompt in enumerate(prompts):
        found, wanted = (decoder.step(slot, prompt, [0])[0] for decoder in decoders)
        np.testing.assert_allclose(found.all(), wanted.all(), atol=0.15)
    for _ in range(3):
        step, past = tokens([260], [300], [400]), [9, 10, 11]
        for found, wanted in zip(*(decoder.step(0, step, past) for decoder in decoders), strict=True):
            np.testing.assert_allclose(found.all(), wanted.all(), atol=0.15)
            assert found.top()[0][:4].tolist() == wanted.top()[0][:4].tolist() or device is CUDA
