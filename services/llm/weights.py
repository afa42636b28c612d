"""Reading a decoder's weights and shape from a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from schemas.errors import MilepostError

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

Array = NDArray[np.float32]

# llama.cpp stores q and k of `llama` permuted, so that rotary pairs are neighbours; `qwen2` keeps them half a head apart.
INTERLEAVED_ROPE = {"llama": True, "qwen2": False}


class UnsupportedModel(MilepostError):
    """The file is no decoder that the graph builder knows."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"No ONNX graph can be built from {path.name}.",
            why=why,
            hint="use a Llama-like or Qwen2-like GGUF file, such as a model of `milepost models ls`",
        )


@dataclass(frozen=True)
class Shape:
    """What a decoder is made of: counts, widths in floats, and the constants of its norms and rotary positions."""

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    context: int
    norm_epsilon: float
    rope_base: float
    interleaved_rope: bool

    def as_dict(self) -> dict[str, object]:
        """The shape as JSON values."""
        return asdict(self)


class Weights:
    """The tensors of a GGUF file, dequantised one at a time to float32 [out, in]."""

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader

        try:
            self._reader: GGUFReader = GGUFReader(path)
        except (ValueError, IndexError, OSError) as error:
            raise UnsupportedModel(path, f"it cannot be read as GGUF: {error}") from error
        self.path = path
        self._tensors: dict[str, ReaderTensor] = {tensor.name: tensor for tensor in self._reader.tensors}
        self.shape = self._read_shape()

    def field(self, key: str) -> object:
        """A metadata value as Python's own type, None where the file has none."""
        field = self._reader.get_field(key)
        return None if field is None else cast("object", field.contents())

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Array:
        from gguf.quants import dequantize

        tensor = self._tensor(name)
        return np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)

    def pieces(self, name: str, rows: int = 8192) -> Iterator[Array]:
        """A matrix in slices of so many rows, each dequantised on its own."""
        from gguf.quants import dequantize

        tensor = self._tensor(name)
        for start in range(0, len(tensor.data), rows):
            yield np.ascontiguousarray(dequantize(tensor.data[start : start + rows], tensor.tensor_type), dtype=np.float32)

    def _tensor(self, name: str) -> ReaderTensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise UnsupportedModel(self.path, f"it has no tensor {name}") from None

    def _read_shape(self) -> Shape:
        family = str(self.field("general.architecture"))
        if family not in INTERLEAVED_ROPE:
            raise UnsupportedModel(self.path, f"its architecture is {family}, not one of {', '.join(INTERLEAVED_ROPE)}")
        if self.field(f"{family}.rope.scaling.type") not in (None, "none") or "rope_freqs.weight" in self:
            raise UnsupportedModel(self.path, "its rotary positions are scaled")
        heads = self._integer(f"{family}.attention.head_count")
        hidden = self._integer(f"{family}.embedding_length")
        head_dim = self.field(f"{family}.attention.key_length") or hidden // heads
        return Shape(
            family=family,
            layers=self._integer(f"{family}.block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=self._integer(f"{family}.attention.head_count_kv"),
            head_dim=int(cast("int", head_dim)),
            feed_forward=self._integer(f"{family}.feed_forward_length"),
            vocabulary=int(self._tensors["token_embd.weight"].shape[1]),
            context=self._integer(f"{family}.context_length"),
            norm_epsilon=self._real(f"{family}.attention.layer_norm_rms_epsilon"),
            rope_base=self._real(f"{family}.rope.freq_base"),
            interleaved_rope=INTERLEAVED_ROPE[family],
        )

    def _integer(self, key: str) -> int:
        return int(self._real(key))

    def _real(self, key: str) -> float:
        value = self.field(key)
        if not isinstance(value, int | float):
            raise UnsupportedModel(self.path, f"its metadata lack {key}")
        return float(value)
