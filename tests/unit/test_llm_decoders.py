from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from services.llm.cpu_decoder import CpuDecoder
from services.llm.cuda_decoder import CudaDecoder, DeviceTooSmall, batch_over
from services.llm.decoder import Decoder
from services.llm.decoders import PrecisionElsewhere, open_decoder
from services.llm.device import CPU, CUDA, Copier
from services.llm.graph import write_graph
from services.llm.interface import DATA_FILE, GRAPH_FILE, Precision
from services.llm.scores import TOP, DeviceScores, HostScores, NotFinite, Scores
from services.llm.session import ModelBroken, ProviderMissing
from services.llm.weights import Shape, Weights
from tests.support.tiny_model import VOCABULARY, Tiny

CAPACITY = 64
SLOTS = 6
IDS = [5, 77, 3, 200, 140, 9, 61, 30, 30, 12, 255]


class Model:
    """A tiny model's graphs, and decoders over them."""

    def __init__(self, folder: Path, *, loud: float = 1.0) -> None:
        self.tiny = Tiny.random("qwen2", tied=False)
        self.tiny.tensors["output.weight"] *= loud
        weights = Weights(self.tiny.write(folder / "tiny.gguf"))
        self.shape, self.folders = weights.shape, dict[Precision, Path]()
        for precision in ("int8", "fp16"):
            self.folders[precision] = folder / precision
            self.folders[precision].mkdir()
            write_graph(weights, self.folders[precision], precision=precision, context=CAPACITY)

    def cpu(self, precision: Precision = "fp16", *, slots: int = SLOTS) -> CpuDecoder:
        folder = self.folders[precision]
        return CpuDecoder(folder, self.shape, slots=slots, capacity=CAPACITY, threads=1, precision=precision)

    def cuda(self, *, slots: int = SLOTS) -> CudaDecoder:
        """The decoder for GPUs, on a CPU: all of it but the recording."""
        return CudaDecoder(self.folders["fp16"], self.shape, slots=slots, capacity=CAPACITY, device=CPU)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(tmp_path_factory.mktemp("tiny"))


def tokens(*rows: Sequence[int]) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


def near(found: Scores, wanted: Scores) -> None:
    np.testing.assert_allclose(found.all(), wanted.all(), atol=0.02)
    np.testing.assert_allclose(found.top()[1], wanted.top()[1], atol=0.02)
    assert found.best() == found.top()[0][0]
    np.testing.assert_allclose(found.all()[found.top()[0]], found.top()[1])


def test_the_gpus_decoder_computes_what_plain_arithmetic_computes(model: Model) -> None:
    scores = model.cuda().step(1, tokens(IDS), [0], every=True)
    np.testing.assert_allclose([each.all() for each in scores], model.tiny.logits(IDS), atol=0.05)


@pytest.mark.parametrize("seed", range(6))
def test_both_decoders_say_the_same_whatever_is_read_where(model: Model, seed: int) -> None:
    random = np.random.default_rng(seed)
    decoders: list[Decoder] = [model.cpu(), model.cuda()]
    held = [0] * SLOTS
    for _ in range(30):
        slot = int(random.integers(SLOTS))
        match random.integers(4):
            case 0:  # a prompt, after a part of what the slot holds
                past = int(random.integers(held[slot] + 1))
                read = random.integers(VOCABULARY, size=(1, int(random.integers(1, 12))))
                if past + read.shape[1] > CAPACITY:
                    continue
                every = bool(random.integers(2))
                pairs = zip(*(decoder.step(slot, read, [past], every=every) for decoder in decoders), strict=True)
                held[slot] = past + read.shape[1]
            case 1:  # a stream that begins like another
                source = int(random.integers(SLOTS))
                for decoder in decoders:
                    decoder.fork(source, slot, held[source])
                held[slot] = held[source]
                continue
            case _:  # a token for each of several streams
                rows = int(random.integers(1, SLOTS - slot + 1))
                past_of = held[slot : slot + rows]
                if max(past_of) >= CAPACITY:
                    continue
                read = random.integers(VOCABULARY, size=(rows, 1))
                pairs = zip(*(decoder.step(slot, read, past_of) for decoder in decoders), strict=True)
                held[slot : slot + rows] = [length + 1 for length in past_of]
        for wanted, found in pairs:
            near(found, wanted)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_what_slots_hold_outlives_steps_beside_them(model: Model, kind: str) -> None:
    decoder, alone = (model.cpu() if kind == "cpu" else model.cuda() for _ in range(2))
    full = list(range(CAPACITY))
    for slot, held in enumerate((full, IDS, IDS[:3], full, IDS[:7])):
        decoder.step(slot, tokens(held), [0])
    for step in range(3):  # slots 1 to 3, of which 3 is full and merely takes part
        decoder.step(1, tokens([7], [8], [9]), [len(IDS) + step, 3 + step, CAPACITY])
    alone.step(0, tokens(IDS[:7]), [0])
    near(decoder.step(4, tokens([50]), [7])[0], alone.step(0, tokens([50]), [7])[0])
    alone.step(0, tokens([*IDS, 7, 7, 7]), [0])
    near(decoder.step(1, tokens([50]), [14])[0], alone.step(0, tokens([50]), [14])[0])
    alone.step(0, tokens(full[:-2]), [0])
    near(decoder.step(0, tokens([50]), [62])[0], alone.step(0, tokens([50]), [62])[0])


def test_a_batch_covers_its_slots_and_no_more_than_it_must() -> None:
    for slots in (1, 2, 3, 5, 8, 31, 256):
        batches = set()
        for first in range(slots):
            for rows in range(1, slots - first + 1):
                start, size = batch_over(first, rows, slots)
                assert 0 <= start <= first
                assert first + rows <= start + size <= slots
                assert size == slots or size & (size - 1) == 0
                batches.add((start, size))
            assert batch_over(first, 1, slots) == (first, 1)
        assert len(batches) <= 2 * slots + 8  # each has a recording of its own


def test_a_device_is_asked_for_whole_rows_only_when_somebody_wants_one() -> None:
    row = np.arange(10, dtype=np.float32)
    fetched: list[int] = []

    def fetch() -> NDArray[np.float32]:
        fetched.append(1)
        return row

    scores = DeviceScores(np.array([9, 8]), row[[9, 8]], fetch)
    assert scores.best() == 9
    assert scores.top()[0].tolist() == [9, 8]
    assert not fetched
    assert scores.all() is scores.all()
    assert fetched == [1]


def test_numbers_that_are_none_are_told() -> None:
    broken = np.array([1, np.nan, 2], np.float32)
    for scores in (HostScores(broken), DeviceScores(np.array([1]), broken[1:2], lambda: broken)):
        for ask in (scores.best, scores.top, scores.all):
            with pytest.raises(NotFinite, match="milepost models"):
                ask()
    with pytest.raises(NotFinite):
        DeviceScores(np.array([2]), broken[2:], lambda: broken).all()


def test_a_precision_that_does_not_hold_a_models_values_is_told(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        loud = Model(tmp_path, loud=1e6)
    for decoder in (loud.cpu(), loud.cuda()):
        with pytest.raises(NotFinite):
            decoder.step(0, tokens(IDS), [0])[0].best()
    assert loud.cpu("int8").step(0, tokens(IDS), [0])[0].best() == int(loud.tiny.logits(IDS)[-1].argmax())


def test_the_likeliest_tokens_come_with_each_step(model: Model) -> None:
    for decoder in (model.cpu(), model.cuda()):
        ids, scores = decoder.step(0, tokens(IDS), [0])[0].top()
        assert len(ids) == len(scores) == TOP
        assert (np.diff(scores) <= 0).all()


def test_blocks_are_copied_between_addresses() -> None:
    sources = [np.full(1000, index, np.uint8) for index in range(3)]
    targets = [np.zeros(1000, np.uint8) for _ in range(3)]
    moves = [(source.ctypes.data, target.ctypes.data) for source, target in zip(sources, targets, strict=True)]
    Copier(CPU, count=3, size=1000).copy(moves)
    np.testing.assert_array_equal(sources, targets)


def truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return damage


def change(edit: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        graph = onnx.load(folder / GRAPH_FILE, load_external_data=False)
        edit(graph)
        onnx.save(graph, folder / GRAPH_FILE)

    return damage


def longer(graph: onnx.ModelProto) -> None:
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "length":
                entry.value = str(int(entry.value) * 10)


def renamed(graph: onnx.ModelProto) -> None:
    for node in graph.graph.node:
        for index, name in enumerate(node.input):
            if name == "lengths":
                node.input[index] = "seqlens_k"
    for each in graph.graph.input:
        if each.name == "lengths":
            each.name = "seqlens_k"


DAMAGES = {
    "half a graph": truncate(GRAPH_FILE),
    "no graph": lambda folder: (folder / GRAPH_FILE).unlink(),
    "half of the weights": truncate(DATA_FILE),
    "no weights": lambda folder: (folder / DATA_FILE).unlink(),
    "weights of another length": change(longer),
    "other names": change(renamed),
    "no model at all": lambda folder: (folder / GRAPH_FILE).write_bytes(b"not a model" * 99),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_damaged_folder_is_refused(
    model: Model, tmp_path: Path, precision: Precision, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(model.folders[precision], folder)
    damage(folder)
    with pytest.raises(ModelBroken, match="milepost models build") as broken:
        if precision == "int8":
            open_decoder(folder, model.shape, precision, slots=1, capacity=CAPACITY)
        else:
            CudaDecoder(folder, model.shape, slots=1, capacity=CAPACITY, device=CPU)
    assert broken.value.folder == folder


def test_a_graph_of_another_shape_than_its_manifest_says_is_refused(model: Model) -> None:
    fields = model.shape.as_dict()
    for other in ({"kv_heads": 4}, {"vocabulary": 9}, {"layers": 3}, {"layers": 1}):
        shape = Shape(**{**fields, **other})  # type: ignore[arg-type]  # as_dict has lost the types
        with pytest.raises(ModelBroken):
            CpuDecoder(model.folders["int8"], shape, slots=1, capacity=CAPACITY, threads=1)
    with pytest.raises(ModelBroken, match="float16"):
        CpuDecoder(model.folders["fp16"], model.shape, slots=1, capacity=CAPACITY, threads=1, precision="int8")


def test_a_graph_is_not_run_on_a_device_it_is_not_made_for(model: Model) -> None:
    with pytest.raises(PrecisionElsewhere, match="milepost models build NAME --precision fp16"):
        open_decoder(model.folders["int8"], model.shape, "int8", slots=1, capacity=CAPACITY, provider="cuda")
    with pytest.raises(PrecisionElsewhere, match="milepost models build NAME --precision int8"):
        open_decoder(model.folders["fp16"], model.shape, "fp16", slots=1, capacity=CAPACITY, provider="cpu")
    with pytest.raises(PrecisionElsewhere, match="The exported graph"):
        open_decoder(model.folders["int8"], None, "fp32", slots=1, capacity=CAPACITY, provider="cuda")
    decoder = open_decoder(model.folders["int8"], model.shape, "int8", slots=1, capacity=CAPACITY)
    assert (decoder.provider, decoder.precision) == ("CPUExecutionProvider", "int8")


def test_a_graph_for_gpus_is_not_quietly_run_elsewhere(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for answers in (False, True):  # a driver that answers is not enough, ONNX Runtime has to have the device
        monkeypatch.setattr("services.llm.decoders.cuda_answers", lambda there=answers: there)
        with pytest.raises(ProviderMissing, match="CUDAExecutionProvider"):
            open_decoder(model.folders["fp16"], model.shape, "fp16", slots=1, capacity=CAPACITY)


def test_a_gpu_that_is_too_small_is_refused_before_anything_is_loaded(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.llm.cuda_decoder.free_memory", lambda device: 2_000_000)
    folder = model.folders["fp16"]
    with pytest.raises(DeviceTooSmall, match="256 streams of 64 tokens") as small:
        CudaDecoder(folder, model.shape, slots=256, capacity=CAPACITY, device=CUDA)
    cache = 256 * CAPACITY * 2 * model.shape.layers * model.shape.kv_heads * model.shape.head_dim * 2
    assert cache < small.value.needed < 2 * cache
