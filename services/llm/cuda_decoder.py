"""A decoder on a GPU: the cache, the logits and the small inputs stay there; 64 candidates of each row come to the host.

How a step of one token works. ONNX Runtime records the kernels of a step once as a CUDA graph and plays them again, with the
addresses and shapes of the recording. So steps run over fixed ranges of slots (batches, of 1, 2, 4, .. rows), each with a
binding and a graph of its own that is recorded when it is first used, in the thread that uses it (graphs belong to threads).
What changes from step to step lies in device memory: tokens and lengths. `longest`, which the attention reads on the host to
plan its launches, is the whole capacity in every recording. Steps of several tokens run without a graph.

All but the recording itself works on a CPU, too, where the tests compare it with CpuDecoder. To try it on a GPU, lend a machine
with one, install the locked `gpu` packages (infra/locks/gpu.txt), build a graph (`milepost models build NAME --precision fp16`)
and run `pytest tests/live/test_cuda.py`, then the benchmark of tests/bench/llm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from schemas.errors import MilepostError
from services.llm.device import CPU, CUDA, Copier, Device, free_memory
from services.llm.interface import (
    DATA_FILE,
    FACTS,
    GRAPH_FILE,
    TOP_SCORES,
    TOP_TOKENS,
    Element,
    Precision,
    cache_names,
)
from services.llm.scores import TOP, DeviceScores, Logits
from services.llm.session import open_session, refuse_other_graph, runtime
from services.llm.weights import Shape

if TYPE_CHECKING:
    from onnxruntime import IOBinding, OrtValue, RunOptions

# A prompt's chunk is some milliseconds of a GPU, for which streams that speak wait.
CHUNK = 1024
EAGER = -1  # the gpu_graph_id of runs that record nothing
FLOAT = 1  # onnx.TensorProto.FLOAT
# Elements of caches: onnx.TensorProto's number and bytes.
ELEMENTS: dict[Element, tuple[int, int]] = {"float32": (FLOAT, 4), "float16": (10, 2), "bfloat16": (16, 2)}
# What kernels need beside weights, cache and logits: scratch memory, and an arena that grows in steps.
HEADROOM = 1.15


class DeviceTooSmall(MilepostError):
    """The GPU has no room for the model and the cache of all slots."""

    def __init__(self, *, needed: int, free: int | None, slots: int, capacity: int) -> None:
        room = f"{free / 1e9:.1f} GB are free" if free is not None else "its memory did not suffice"
        super().__init__(
            f"The model and {slots} streams of {capacity} tokens take {needed / 1e9:.1f} GB of GPU memory; {room}.",
            why="keys and values of all streams are allocated at once, at their longest",
            hint="lower the number of streams or the context of the model, or end what else uses the GPU (nvidia-smi)",
        )
        self.needed = needed


@dataclass(frozen=True)
class Batch:
    """Slots that are stepped together, at addresses that never change."""

    start: int
    size: int
    binding: IOBinding
    tokens: OrtValue
    lengths: OrtValue
    top_scores: OrtValue
    top_tokens: OrtValue
    options: RunOptions


class CudaDecoder:
    """A session and the cache of its streams: per layer keys and values [slots, kv_heads, capacity, head_dim] on the device.

    graphs: whether steps of one token are recorded. Raises ModelBroken, RuntimeConflict, ProviderMissing, DeviceTooSmall.
    """

    def __init__(
        self, folder: Path, shape: Shape, *, slots: int, capacity: int, precision: Precision = "fp16",
        device: Device = CUDA, graphs: bool = True,
    ) -> None:  # fmt: skip
        self.shape, self.slots, self.capacity, self.vocabulary = shape, slots, capacity, shape.vocabulary
        self.threads, self.chunk, self.device = 1, CHUNK, device
        self.precision: str = precision
        self._graphs = graphs
        self._element, width = ELEMENTS[FACTS[precision].element]
        self._slot_bytes = shape.kv_heads * capacity * shape.head_dim * width
        self._row_bytes = shape.vocabulary * 4
        needed = int(HEADROOM * slots * (2 * shape.layers * self._slot_bytes + self._row_bytes)) + _weights(folder)
        refuse_small_device(device, needed, slots=slots, capacity=capacity)
        self._session = open_session(folder / GRAPH_FILE, threads=1, provider=device.name, captured=graphs)
        refuse_other_graph(self._session, folder, shape, precision)
        self.provider = self._session.get_providers()[0]
        try:
            names = [name for layer in range(shape.layers) for name in cache_names("past", layer)]
            self._cache = {name: device.zeros(slots * self._slot_bytes) for name in names}
            self._logits = device.zeros(slots * self._row_bytes)
        except RuntimeError as error:
            raise DeviceTooSmall(needed=needed, free=None, slots=slots, capacity=capacity) from error
        # How far each slot may hold tokens: what a row that merely takes part writes lies behind.
        self._ends = np.zeros(slots, np.int32)
        self._batches: dict[tuple[int, int], Batch] = {}
        self._readers: dict[int, IOBinding] = {}
        self._read_logits: OrtValue | None = None

    def step(
        self, first: int, tokens: NDArray[np.int64], past: Sequence[int], *, every: bool = False
    ) -> Sequence[DeviceScores]:
        """As the port says."""
        rows, length = tokens.shape
        scores = self._advance(first, tokens, past) if length == 1 and not every else self._read(first, tokens, past[0], every)
        self._ends[first : first + rows] = np.minimum(np.array(past) + length, self.capacity)
        return scores

    def fork(self, source: int, target: int, length: int) -> None:
        """Copy a slot's memory to another: all of it, in one go."""
        moves = [(self._address(name, source), self._address(name, target)) for name in self._cache]
        self._forks.copy(moves)
        self._ends[target] = length

    def close(self) -> None:
        """Let go of the session, its recordings and the cache."""
        self._batches.clear()
        self._readers.clear()
        self._cache.clear()
        self._read_logits = None
        del self._session, self._logits

    @cached_property
    def _forks(self) -> Copier:
        return Copier(self.device, count=2 * self.shape.layers, size=self._slot_bytes)

    @cached_property
    def _fetches(self) -> Copier:
        return Copier(self.device, count=1, size=self._row_bytes)

    def _address(self, name: str, slot: int) -> int:
        return int(self._cache[name].data_ptr()) + slot * self._slot_bytes

    def _advance(self, first: int, tokens: NDArray[np.int64], past: Sequence[int]) -> list[DeviceScores]:
        """One token for each row, as part of the smallest batch that holds them all."""
        start, size = batch_over(first, len(tokens), self.slots)
        batch = self._batches.get((start, size)) or self._prepare(start, size)
        begin, end = first - start, first - start + len(tokens)
        lengths = self._ends[start : start + size].copy()
        lengths[begin:end] = past
        ids = np.zeros((size, 1), np.int64)
        ids[begin:end] = tokens
        batch.tokens.update_inplace(ids)
        # A row beside the live ones writes behind what its slot holds. In a full slot that is its last token, which no
        # stream goes on from.
        batch.lengths.update_inplace(np.minimum(lengths, np.int32(self.capacity - 1)))
        self._session.run_with_iobinding(batch.binding, batch.options)
        best, found = batch.top_scores.numpy()[begin:end, 0], batch.top_tokens.numpy()[begin:end, 0]
        return self._scores(best, found, int(self._logits.data_ptr()) + begin * self._row_bytes)

    def _read(self, slot: int, tokens: NDArray[np.int64], past: int, every: bool) -> list[DeviceScores]:
        """Several tokens into one slot."""
        length = tokens.shape[1]
        binding = self._readers.get(slot) or self._bind(slot, 1)
        self._readers[slot] = binding
        binding.bind_cpu_input("input_ids", tokens)
        binding.bind_cpu_input("rows", np.arange(0 if every else length - 1, length, dtype=np.int64))
        binding.bind_cpu_input("lengths", np.array([past + length - 1], np.int32))
        binding.bind_cpu_input("longest", np.array(past + length, np.int32))
        binding.bind_output("logits", self.device.name, self.device.id)
        binding.bind_output(TOP_SCORES)
        binding.bind_output(TOP_TOKENS)
        self._session.run_with_iobinding(binding, _run_options(EAGER))
        self._read_logits, best, found = binding.get_outputs()[-3:]
        return self._scores(best.numpy()[0], found.numpy()[0], int(self._read_logits.data_ptr()))

    def _scores(self, best: Logits, found: NDArray[np.int64], address: int) -> list[DeviceScores]:
        """Scores of rows whose logits lie one after the other on the device."""
        addresses = range(address, address + len(best) * self._row_bytes, self._row_bytes)
        rows = zip(found, best, addresses, strict=True)
        return [DeviceScores(tokens, logits, partial(self._fetch, at)) for tokens, logits, at in rows]

    def _fetch(self, address: int) -> Logits:
        row = np.empty(self.shape.vocabulary, np.float32)
        self._fetches.copy([(address, row.ctypes.data)], target=CPU)
        return row

    def _prepare(self, start: int, size: int) -> Batch:
        """The fixed memory of a batch, and its binding; it is recorded when it first runs."""
        binding, hold = self._bind(start, size), self.device.holding
        count = min(TOP, self.shape.vocabulary)
        batch = Batch(
            start, size, binding,
            tokens=hold(np.zeros((size, 1), np.int64)),
            lengths=hold(np.zeros(size, np.int32)),
            top_scores=hold(np.zeros((size, 1, count), np.float32)),
            top_tokens=hold(np.zeros((size, 1, count), np.int64)),
            options=_run_options(len(self._batches) if self._graphs else EAGER),
        )  # fmt: skip
        binding.bind_ortvalue_input("input_ids", batch.tokens)
        binding.bind_ortvalue_input("lengths", batch.lengths)
        binding.bind_ortvalue_input("rows", hold(np.zeros(1, np.int64)))
        binding.bind_cpu_input("longest", np.array(self.capacity, np.int32))
        dims = [size, 1, self.shape.vocabulary]
        binding.bind_output("logits", self.device.name, self.device.id, FLOAT, dims, int(self._logits.data_ptr()))
        binding.bind_ortvalue_output(TOP_SCORES, batch.top_scores)
        binding.bind_ortvalue_output(TOP_TOKENS, batch.top_tokens)
        self._batches[start, size] = batch
        return batch

    def _bind(self, first: int, rows: int) -> IOBinding:
        """A binding to the cache of a range of slots: read and written in place."""
        binding = self._session.io_binding()
        dims = [rows, self.shape.kv_heads, self.capacity, self.shape.head_dim]
        for name in self._cache:
            place = (self.device.name, self.device.id, self._element, dims, self._address(name, first))
            binding.bind_input(name, *place)
            binding.bind_output(name.replace("past", "present"), *place)
        return binding


def refuse_small_device(device: Device, needed: int, *, slots: int, capacity: int) -> None:
    """DeviceTooSmall if a GPU's driver says that fewer bytes are free than needed."""
    free = free_memory(device) if device.name == "cuda" else None
    if free is not None and needed > free:
        raise DeviceTooSmall(needed=needed, free=free, slots=slots, capacity=capacity)


def batch_over(first: int, rows: int, slots: int) -> tuple[int, int]:
    """The smallest batch that covers a range of slots: its first slot, a multiple of its size, and its size, a power of two.

    At the end of all slots a batch may begin elsewhere or be narrower, so that it stays within them.
    """
    size = 1
    while True:
        start = max(0, min(first // size * size, slots - size))
        if start + size >= first + rows:
            return start, min(size, slots)
        size *= 2


def _run_options(graph: int) -> RunOptions:
    options = runtime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options


def _weights(folder: Path) -> int:
    data = folder / DATA_FILE
    return data.stat().st_size if data.exists() else 0
