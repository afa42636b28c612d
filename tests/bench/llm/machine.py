"""What this machine's memory gives: the ceiling of decoding, which reads every weight once for each token."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import psutil

THREADS = psutil.cpu_count(logical=False) or 1
ROUNDS = 5
# What looks rows up reads a few of them; every other node reads all of its weights.
LOOKUPS = ("Gather", "GatherBlockQuantized", "GroupQueryAttention")


def bandwidth(size: int) -> float:
    """Bytes a second that all cores together read from an array as large as a model's weights: the best of some rounds."""
    array = np.ones(max(size // 8 // THREADS, 1) * THREADS, np.int64)
    parts = np.split(array, THREADS)

    def once() -> float:
        readers = [threading.Thread(target=part.sum) for part in parts]
        began = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        return time.perf_counter() - began

    return array.nbytes / min(once() for _ in range(ROUNDS))


def weights_read(graph: Path) -> int:
    """Bytes of weights that a decoding step of an ONNX graph reads: all but the tables that it looks rows up in."""
    import onnx

    model = onnx.load(graph, load_external_data=False).graph
    looked_up = {name for node in model.node if node.op_type in LOOKUPS for name in node.input}
    read = {name for node in model.node if node.op_type not in LOOKUPS for name in node.input}
    return sum(_bytes(tensor) for tensor in model.initializer if tensor.name in read or tensor.name not in looked_up)


def _bytes(tensor: object) -> int:
    import onnx

    dims = int(np.prod(tensor.dims, dtype=np.int64))  # type: ignore[attr-defined]  # onnx has no types
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)  # type: ignore[attr-defined]
    return int(dims * kind.itemsize)
