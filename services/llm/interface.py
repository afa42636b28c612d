"""What the graph's builder and its runner agree on: files, precisions, and the names of inputs and outputs.

Inputs of every graph:
  input_ids [batch, length] int64
  rows [n] int64: the positions of `length` whose logits are wanted
  lengths [batch] int32: valid tokens of a row after this step, less one
  longest [] int32: the largest number of valid tokens after this step (on the host, also with CUDA)
  past.<layer>.key and .value [batch, kv_heads, capacity, head_dim], of the precision's type
Outputs of every graph:
  logits [batch, n, vocabulary] float32
  present.<layer>.key and .value, to be bound to the past's memory
Outputs of the precisions for CUDA, so that a host need not fetch whole rows of logits:
  top_scores [batch, n, scores.TOP] float32, best first, and top_tokens, of the same size, int64

With past tokens a step of several tokens takes one row only (a limit of GroupQueryAttention).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

GRAPH_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"

TOP_SCORES, TOP_TOKENS = "top_scores", "top_tokens"

Precision: TypeAlias = Literal["fp32", "int8", "int4", "fp16", "bf16", "int4-fp16"]
Element: TypeAlias = Literal["float32", "float16", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Facts:
    """element: type of activations and cache; top: whether the graph picks the likeliest tokens; device: made for."""

    element: Element
    top: bool
    device: Literal["cpu", "cuda"]


FACTS: dict[Precision, Facts] = {
    "fp32": Facts("float32", False, "cpu"),
    "int8": Facts("float32", False, "cpu"),
    "int4": Facts("float32", False, "cpu"),
    "fp16": Facts("float16", True, "cuda"),
    "bf16": Facts("bfloat16", True, "cuda"),
    "int4-fp16": Facts("float16", True, "cuda"),
}


def cache_names(side: Literal["past", "present"], layer: int) -> tuple[str, str]:
    """The names of a layer's keys and values on the way in (past) or out (present)."""
    return f"{side}.{layer}.key", f"{side}.{layer}.value"
