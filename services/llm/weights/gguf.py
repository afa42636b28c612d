"""Weights in a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), of any type that `gguf` dequantises."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from services.llm.weights.rotary import Rotary, UnknownScaling, scaled
from services.llm.weights.shape import Array, Shape, UnsupportedModel

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

# llama.cpp stores q and k of `llama` permuted, so that rotary pairs are neighbours; the others keep them half a head apart.
INTERLEAVED_ROPE = {"llama": True, "qwen2": False, "qwen3": False}
MAGIC = b"GGUF"


class GgufFile:
    """The tensors and metadata of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                if file.read(len(MAGIC)) != MAGIC:
                    raise UnsupportedModel(path, "it cannot be read as GGUF: it does not begin as such a file does")
            self._reader = _reader(path)
        # The reader meets broken bytes with whatever error they lead to.
        except (ValueError, LookupError, OSError, ArithmeticError, TypeError, AttributeError) as error:
            raise UnsupportedModel(path, f"it cannot be read as GGUF, or is cut short: {error}") from error
        self._tensors: dict[str, ReaderTensor] = {tensor.name: tensor for tensor in self._reader.tensors}
        if str(self.field("general.architecture")) not in INTERLEAVED_ROPE:
            known = ", ".join(INTERLEAVED_ROPE)
            raise UnsupportedModel(path, f"its architecture is {self.field('general.architecture')}, not one of {known}")

    def field(self, key: str) -> object:
        """A metadata value as Python's own type, None where the file has none."""
        field = self._reader.get_field(key)
        return None if field is None else cast("object", field.contents())

    def dimensions(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's [out, in]."""
        return {name: tuple(int(size) for size in reversed(tensor.shape)) for name, tensor in self._tensors.items()}

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Some rows of a tensor, dequantised."""
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        try:
            return np.ascontiguousarray(dequantize(tensor.data[start:stop], tensor.tensor_type), dtype=np.float32)
        except NotImplementedError as error:
            raise UnsupportedModel(self._path, f"its tensor {name} is of the type {tensor.tensor_type.name}") from error

    def shape(self) -> Shape:
        """The shape that the metadata tell."""
        family = str(self.field("general.architecture"))
        context = self._integer("context_length")
        if self._real("expert_count", 0):
            raise UnsupportedModel(self._path, "it is a mixture of experts")
        if 0 < self._real("attention.sliding_window", 0) < context:
            raise UnsupportedModel(self._path, "its attention slides over a window")
        hidden, heads = self._integer("embedding_length"), self._integer("attention.head_count")
        head_dim = int(self._real("attention.key_length", hidden // max(heads, 1)))
        if self._real("rope.dimension_count", head_dim) != head_dim:
            raise UnsupportedModel(self._path, "its rotary positions turn only a part of each head")
        if "token_embd.weight" not in self._tensors:
            raise UnsupportedModel(self._path, "it has no tensor token_embd.weight")
        return Shape(
            family=family,
            layers=self._integer("block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=int(self._real("attention.head_count_kv", heads)),
            head_dim=head_dim,
            feed_forward=self._integer("feed_forward_length"),
            vocabulary=int(self._tensors["token_embd.weight"].shape[-1]),
            context=context,
            norm_epsilon=self._real("attention.layer_norm_rms_epsilon"),
            rope_base=self._real("rope.freq_base", 10_000.0),
            interleaved_rope=INTERLEAVED_ROPE[family],
        )

    def rotary(self, shape: Shape) -> Rotary:
        """The scaling of the metadata, and the factors of `rope_freqs.weight`, which llama.cpp makes of llama3's."""
        prefix = f"{shape.family}.rope.scaling"
        kind = self.field(f"{prefix}.type")
        if kind == "longrope":
            raise UnsupportedModel(self._path, "its rotary positions are scaled by longrope, which is not known here")
        try:
            rotary = scaled(shape.rope_base, shape.head_dim, {
                "rope_type": kind, "factor": self.field(f"{prefix}.factor"),
                "original_max_position_embeddings": self.field(f"{prefix}.original_context_length"),
                "attention_factor": self.field(f"{prefix}.attn_factor"),
                "mscale": self.field(f"{prefix}.yarn_log_multiplier"),
            }, shape.context)  # fmt: skip
        except UnknownScaling as error:
            raise UnsupportedModel(self._path, str(error)) from error
        if "rope_freqs.weight" not in self._tensors:
            return rotary
        factors = self.rows("rope_freqs.weight", 0, shape.head_dim // 2)
        if factors.shape != rotary.frequencies.shape or not (factors > 0).all():
            raise UnsupportedModel(self._path, "its factors of rotary positions (rope_freqs.weight) do not fit its heads")
        return Rotary(rotary.frequencies / factors, rotary.magnitude)

    def _integer(self, key: str) -> int:
        return int(self._real(key))

    def _real(self, key: str, default: float | None = None) -> float:
        """A number of the family's metadata."""
        name = f"{self.field('general.architecture')}.{key}"
        value = self.field(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | float):
            raise UnsupportedModel(self._path, f"its metadata lack a number {name}")
        return float(value)


def _reader(path: Path) -> GGUFReader:
    """The package's reader over a plain array: a slice of its memmap takes three times as long, for each of 300,000 texts."""
    from gguf import GGUFReader

    class PlainReader(GGUFReader):
        @property  # type: ignore[override]  # a memmap there
        def data(self) -> NDArray[np.uint8]:
            return self._plain

        @data.setter
        def data(self, mapped: NDArray[np.uint8]) -> None:
            self._plain: NDArray[np.uint8] = mapped.view(np.ndarray)

    return PlainReader(path)
