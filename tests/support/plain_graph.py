"""A graph of any precision run plainly on the CPU, with one row and no shared memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from services.llm.interface import FACTS, GRAPH_FILE, Precision, cache_names
from services.llm.session import open_session
from services.llm.weights import Shape

Outputs = dict[str, NDArray[np.generic]]


class PlainGraph:
    """The stream of one row, read step by step."""

    def __init__(self, folder: Path, shape: Shape, precision: Precision) -> None:
        self._session: InferenceSession = open_session(folder / GRAPH_FILE, threads=1, provider="cpu")
        self._length = 0
        empty = np.zeros((1, shape.kv_heads, 0, shape.head_dim), FACTS[precision].element)
        names = [name for layer in range(shape.layers) for name in cache_names("past", layer)]
        self._cache: Outputs = dict.fromkeys(names, empty)

    def read(self, ids: Sequence[int]) -> Outputs:
        """The outputs after each of the tokens."""
        self._length += len(ids)
        inputs = {
            "input_ids": np.array([ids], np.int64), "rows": np.arange(len(ids)), **self._cache,
            "lengths": np.array([self._length - 1], np.int32), "longest": np.array(self._length, np.int32),
        }  # fmt: skip
        names = [output.name for output in self._session.get_outputs()]
        found = dict(zip(names, self._session.run(names, inputs), strict=True))
        self._cache = {name: found.pop(name.replace("past", "present")) for name in self._cache}
        return found

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits [len(ids), vocabulary]."""
        return np.asarray(self.read(ids)["logits"][0], np.float32)
