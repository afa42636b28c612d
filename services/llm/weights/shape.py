"""What a decoder is made of, and which tensors that takes (by their GGUF names, whatever file they come from)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.errors import MilepostError

Array = NDArray[np.float32]

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
HEAD_STEP = 16  # ONNX Runtime's attention on CPUs takes heads of a multiple of so many floats

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_BLOCK_TENSORS = frozenset(
    f"{part}.{kind}"
    for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    for kind in ("weight", "bias")
) | {"attn_norm.weight", "ffn_norm.weight", "attn_q_norm.weight", "attn_k_norm.weight"}
_OTHER_TENSORS = frozenset({"token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"})


class UnsupportedModel(MilepostError):
    """The file or folder is no decoder that the graph builder knows, or not all of one."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"No ONNX graph can be built from {path.name}.",
            why=why,
            hint="use a whole GGUF file or safetensors folder of the Llama, Qwen2 or Qwen3 family, such as a model of "
            "`milepost models ls`",
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

    @property
    def query_width(self) -> int:
        """Floats of all heads' queries."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Floats of all heads' keys; as many as of their values."""
        return self.kv_heads * self.head_dim


def check(path: Path, shape: Shape, tensors: Mapping[str, tuple[int, ...]]) -> None:
    """UnsupportedModel unless the tensors (name: dimensions [out, in]) are those that the shape takes, and no more."""
    if shape.kv_heads < 1 or shape.head_dim < 1 or shape.heads % shape.kv_heads:
        raise UnsupportedModel(path, f"its {shape.heads} heads cannot share {shape.kv_heads} keys and values")
    if shape.head_dim % HEAD_STEP:
        raise UnsupportedModel(path, f"its heads have {shape.head_dim} floats, which is no multiple of {HEAD_STEP}")
    for name in tensors:
        _refuse_unknown(path, name)
    for name, dims in _wanted(shape).items():
        if name not in tensors:
            raise UnsupportedModel(path, f"it has no tensor {name}")
        if tensors[name] != dims:
            raise UnsupportedModel(path, f"its tensor {name} has the dimensions {tensors[name]} instead of {dims}")


def _refuse_unknown(path: Path, name: str) -> None:
    """A tensor that the graph would not use is a part of the model that the graph would not compute."""
    block = _BLOCK.fullmatch(name)
    if name in _OTHER_TENSORS or (block and block[2] in _BLOCK_TENSORS):
        return
    if "_exps" in name or "gate_inp" in name:
        raise UnsupportedModel(path, "it is a mixture of experts")
    raise UnsupportedModel(path, f"it has a tensor {name}, which is no part of the families {', '.join(FAMILIES)}")


def _wanted(shape: Shape) -> dict[str, tuple[int, ...]]:
    hidden, query, key, forward = shape.hidden, shape.query_width, shape.key_width, shape.feed_forward
    block: dict[str, tuple[int, ...]] = {
        "attn_norm": (hidden,), "attn_q": (query, hidden), "attn_k": (key, hidden), "attn_v": (key, hidden),
        "attn_output": (hidden, query), "ffn_norm": (hidden,), "ffn_gate": (forward, hidden), "ffn_up": (forward, hidden),
        "ffn_down": (hidden, forward),
    }  # fmt: skip
    if shape.family == "qwen3":
        block |= {"attn_q_norm": (shape.head_dim,), "attn_k_norm": (shape.head_dim,)}
    wanted = {f"blk.{layer}.{part}.weight": dims for layer in range(shape.layers) for part, dims in block.items()}
    return wanted | {"token_embd.weight": (shape.vocabulary, hidden), "output_norm.weight": (hidden,)}
