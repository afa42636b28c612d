"""A decoder on the CPU: slots of keys and values that a graph of ours reads and writes in place."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.llm.interface import FACTS, GRAPH_FILE, Element, Precision, cache_names
from services.llm.scores import HostScores
from services.llm.session import open_session, refuse_other_graph
from services.llm.weights import Shape

if TYPE_CHECKING:
    from onnxruntime import IOBinding

CHUNK = 256
Cache: TypeAlias = NDArray[np.float32 | np.float16]
DTYPES: dict[Element, type[np.float32 | np.float16]] = {"float32": np.float32, "float16": np.float16}


class CpuDecoder:
    """A session and the cache of its streams: per layer keys and values [slots, kv_heads, capacity, head_dim].

    Untouched pages of the cache cost no memory. Not safe for two threads. Raises ModelBroken, RuntimeConflict,
    ProviderMissing.
    """

    def __init__(
        self, folder: Path, shape: Shape, *, slots: int, capacity: int, threads: int, precision: Precision = "int8"
    ) -> None:  # fmt: skip
        self.shape, self.slots, self.capacity, self.vocabulary = shape, slots, capacity, shape.vocabulary
        self.threads, self.chunk = threads, CHUNK
        self.precision: str = precision
        self._session = open_session(folder / GRAPH_FILE, threads=threads, provider="cpu")
        refuse_other_graph(self._session, folder, shape, precision)
        self._dtype = DTYPES[FACTS[precision].element]
        dims = (slots, shape.kv_heads, capacity, shape.head_dim)
        names = [name for layer in range(shape.layers) for name in cache_names("past", layer)]
        self._cache = {name: _lazy_zeros(dims, self._dtype) for name in names}
        self._bindings: dict[tuple[int, int], IOBinding] = {}
        self.provider = self._session.get_providers()[0]

    def step(self, first: int, tokens: NDArray[np.int64], past: Sequence[int], *, every: bool = False) -> Sequence[HostScores]:
        """As the port says."""
        rows, length = tokens.shape
        binding = self._binding(first, rows)
        binding.bind_cpu_input("input_ids", tokens)
        binding.bind_cpu_input("rows", np.arange(0 if every else length - 1, length, dtype=np.int64))
        # A row that merely takes part may be full: there it writes over the last token, not into its neighbour.
        lengths = np.minimum(np.array(past, np.int32) + np.int32(length), np.int32(self.capacity))
        binding.bind_cpu_input("lengths", lengths - np.int32(1))
        binding.bind_cpu_input("longest", np.array(lengths.max(), np.int32))
        binding.bind_output("logits")
        self._session.run_with_iobinding(binding)
        logits = binding.get_outputs()[-1].numpy()
        return [HostScores(row) for row in (logits[0] if every else logits[:, 0])]

    def fork(self, source: int, target: int, length: int) -> None:
        """Copy the first tokens of one slot to another."""
        for cache in self._cache.values():
            cache[target, :, :length] = cache[source, :, :length]

    def close(self) -> None:
        """Let go of the session and the cache."""
        self._bindings.clear()
        self._cache.clear()
        del self._session

    def _binding(self, first: int, rows: int) -> IOBinding:
        """The cache of a range of slots as inputs and outputs: views by address, made once for each range."""
        if (first, rows) not in self._bindings:
            binding = self._session.io_binding()
            dims = [rows, self.shape.kv_heads, self.capacity, self.shape.head_dim]
            for name, cache in self._cache.items():
                address = cache[first:].ctypes.data
                binding.bind_input(name, "cpu", 0, self._dtype, dims, address)
                binding.bind_output(name.replace("past", "present"), "cpu", 0, self._dtype, dims, address)
            self._bindings[first, rows] = binding
        return self._bindings[first, rows]


def _lazy_zeros(dims: tuple[int, ...], dtype: type[np.float32 | np.float16]) -> Cache:
    """Zeros that take memory in small pages, as they are written: a huge page would cost 2 MB for a slot's first token."""
    if not hasattr(mmap, "MADV_NOHUGEPAGE"):
        return np.zeros(dims, dtype)
    pages = mmap.mmap(-1, math.prod(dims) * np.dtype(dtype).itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.ndarray(dims, dtype, pages)
