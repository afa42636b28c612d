"""A decoder's weights, shape and rotary positions, from a GGUF file or a folder of safetensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from services.llm.weights.gguf import GgufFile
from services.llm.weights.rotary import Rotary
from services.llm.weights.safetensors import SafetensorsFolder
from services.llm.weights.shape import Array, Shape, UnsupportedModel, check

__all__ = ["Array", "Rotary", "Shape", "UnsupportedModel", "Weights"]

PIECE = 8192


class Reader(Protocol):
    """A form that weights come in. Tensors have their GGUF names and the dimensions [out, in]."""

    def field(self, key: str) -> object:
        """A GGUF metadata value, None where there is none."""
        ...

    def dimensions(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's dimensions."""
        ...

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Some rows of a tensor in float32."""
        ...

    def shape(self) -> Shape:
        """The decoder's shape; UnsupportedModel if it is none that the graph builder knows."""
        ...

    def rotary(self, shape: Shape) -> Rotary:
        """Its rotary positions."""
        ...


class Weights:
    """The tensors of a GGUF file or a folder with config.json and safetensors, read one at a time as float32 [out, in].

    Raises UnsupportedModel for what is cut short, contradicts itself or is of another family.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader: Reader = SafetensorsFolder(path) if path.is_dir() else GgufFile(path)
        self.shape = self._reader.shape()
        self._dims = self._reader.dimensions()
        check(path, self.shape, self._dims)
        self.rotary = self._reader.rotary(self.shape)

    def field(self, key: str) -> object:
        """A GGUF metadata value as Python's own type, None where the source has none."""
        return self._reader.field(key)

    def __contains__(self, name: str) -> bool:
        return name in self._dims

    def __getitem__(self, name: str) -> Array:
        return self._read(name, 0, self._rows(name))

    def pieces(self, name: str, rows: int = PIECE) -> Iterator[Array]:
        """A matrix in slices of so many rows, each read on its own."""
        for start in range(0, self._rows(name), rows):
            yield self._read(name, start, min(start + rows, self._rows(name)))

    def _read(self, name: str, start: int, stop: int) -> Array:
        """Some rows, if all of them are numbers: products of 8 bits would make finite nonsense of others."""
        found = self._reader.rows(name, start, stop)
        if not np.isfinite(found).all():
            raise UnsupportedModel(self.path, f"its tensor {name} holds what is no number, so the file is damaged")
        return found

    def _rows(self, name: str) -> int:
        if name not in self._dims:
            raise UnsupportedModel(self.path, f"it has no tensor {name}")
        return self._dims[name][0]
