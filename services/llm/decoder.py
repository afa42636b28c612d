"""One ONNX decoder with memory for several streams: slots of keys and values, read and written in place."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.errors import MilepostError
from services.llm.interface import GRAPH_FILE, cache_names
from services.llm.weights import Shape

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

Logits = NDArray[np.float32]
Provider: TypeAlias = Literal["auto", "cpu", "cuda"]

# The int8 graph is made for CPUs, so that is where it runs unless a person says otherwise.
PROVIDERS: dict[Provider, str] = {
    "auto": "CPUExecutionProvider",
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}


class RuntimeConflict(MilepostError):
    """Both builds of ONNX Runtime are installed; the one installed last has overwritten the other."""

    def __init__(self) -> None:
        super().__init__(
            "Both onnxruntime and onnxruntime-gpu are installed.",
            why="they write into the same folder, so that one of them is broken",
            hint="pip uninstall -y onnxruntime onnxruntime-gpu, then install one of them (the second runs on CPUs, too)",
        )


class ModelBroken(MilepostError):
    """A folder holds no built model, or not all of one."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"{folder} holds no model that can be served.", why=why, hint="remove the folder, then `milepost models pull`"
        )
        self.folder = folder


class ProviderMissing(MilepostError):
    """ONNX Runtime would run the model elsewhere than asked."""

    def __init__(self, wanted: str, got: str) -> None:
        super().__init__(
            f"The model was asked to run on {wanted}, ONNX Runtime gave {got}.",
            why="its build or the driver of this machine has no such device",
            hint="install onnxruntime-gpu[cuda,cudnn] on a machine with an NVIDIA driver, or set the provider to cpu",
        )


class Decoder:
    """A session and the cache of its streams: per layer keys and values [slots, kv_heads, capacity, head_dim].

    Untouched pages of the cache cost no memory. Not safe for two threads.
    """

    def __init__(
        self, folder: Path, shape: Shape, *, slots: int, capacity: int, threads: int, provider: Provider = "cpu"
    ) -> None:
        self.shape, self.slots, self.capacity = shape, slots, capacity
        self._session = open_session(folder / GRAPH_FILE, threads=threads, provider=provider)
        dims = (slots, shape.kv_heads, capacity, shape.head_dim)
        names = [name for layer in range(shape.layers) for name in cache_names("past", layer)]
        self._cache = {name: _lazy_zeros(dims) for name in names}
        self._bindings: dict[tuple[int, int], IOBinding] = {}
        self.provider = self._session.get_providers()[0]

    def step(self, first: int, tokens: NDArray[np.int64], past: Sequence[int]) -> Logits:
        """Read tokens [rows, n] into the slots from `first` on and return the logits [rows, vocabulary] after the last.

        past: valid tokens of each row before this step; n > 1 only with one row (an operator limit of ONNX Runtime).
        """
        rows, length = tokens.shape
        binding = self._binding(first, rows)
        binding.bind_cpu_input("input_ids", tokens)
        binding.bind_cpu_input("rows", np.array([length - 1], np.int64))
        binding.bind_cpu_input("lengths", np.array(past, np.int32) + np.int32(length - 1))
        binding.bind_cpu_input("longest", np.array(max(past) + length, np.int32))
        binding.bind_output("logits")
        self._session.run_with_iobinding(binding)
        logits: Logits = binding.get_outputs()[-1].numpy()
        return logits[:, 0]

    def fork(self, source: int, target: int, length: int) -> None:
        """Copy the first tokens of one slot to another."""
        for cache in self._cache.values():
            cache[target, :, :length] = cache[source, :, :length]

    def _binding(self, first: int, rows: int) -> IOBinding:
        """The cache of a range of slots as inputs and outputs: views by address, made once for each range."""
        if (first, rows) not in self._bindings:
            binding = self._session.io_binding()
            dims = [rows, self.shape.kv_heads, self.capacity, self.shape.head_dim]
            for name, cache in self._cache.items():
                address = cache[first:].ctypes.data
                binding.bind_input(name, "cpu", 0, np.float32, dims, address)
                binding.bind_output(name.replace("past", "present"), "cpu", 0, np.float32, dims, address)
            self._bindings[first, rows] = binding
        return self._bindings[first, rows]


def _lazy_zeros(dims: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros that take memory in small pages, as they are written: a huge page would cost 2 MB for a slot's first token."""
    size = int(np.prod(dims))
    if not hasattr(mmap, "MADV_NOHUGEPAGE"):
        return np.zeros(dims, np.float32)
    pages = mmap.mmap(-1, size * 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.float32).reshape(dims)


def open_session(path: Path, *, threads: int, provider: Provider) -> InferenceSession:
    """An ONNX Runtime session that runs where it was asked to and sends nothing home.

    Raises RuntimeConflict, ProviderMissing and ModelBroken.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    refuse_two_runtimes()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Lengths differ from step to step: a plan of memory for each of them would only cost memory.
    options.enable_mem_pattern = False
    # Spinning threads would take the cores that the other services of this machine need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider == "cuda":
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[PROVIDERS[provider]])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ModelBroken(path.parent, str(error)[:300]) from error
    got = session.get_providers()[0]
    if got != PROVIDERS[provider]:
        raise ProviderMissing(PROVIDERS[provider], got)
    return session


def refuse_two_runtimes() -> None:
    """RuntimeConflict if both distributions of ONNX Runtime are there."""
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        raise RuntimeConflict


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
