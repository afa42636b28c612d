"""Building the ONNX graph of a Llama-like or Qwen-like decoder, without torch. Inputs and outputs: interface.py.

Operators of com.microsoft: GroupQueryAttention with rotary positions inside, SkipSimplifiedLayerNormalization, QuickGelu
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from services.llm.interface import DATA_FILE, FACTS, GRAPH_FILE, TOP_SCORES, TOP_TOKENS, Precision, cache_names
from services.llm.parts import CONTRIB, Data, Parts
from services.llm.projections import Dense, Int4, Int8, Projection
from services.llm.quantise import quantise_rows
from services.llm.scores import TOP
from services.llm.weights import Array, Shape, Weights

OPSET = 21
IR_VERSION = 10


@dataclass(frozen=True)
class Recipe:
    """How a precision multiplies: its layers, its output table; packed: whether the embedding is an int8 table."""

    layers: Projection
    head: Projection
    packed: bool


RECIPES: dict[Precision, Recipe] = {
    "fp32": Recipe(Dense(np.float32), Dense(np.float32), packed=False),
    "int8": Recipe(Int8(), Int8(), packed=True),
    "int4": Recipe(Int4(), Int8(), packed=True),
    "fp16": Recipe(Dense(np.float16), Dense(np.float16), packed=False),
    "bf16": Recipe(Dense(ml_dtypes.bfloat16), Dense(ml_dtypes.bfloat16), packed=False),
    "int4-fp16": Recipe(Int4(np.float16), Dense(np.float16), packed=False),
}


def write_graph(weights: Weights, folder: Path, *, precision: Precision, context: int) -> None:
    """Write model.onnx and model.onnx.data; context: tokens that the rotary tables reach."""
    with (folder / DATA_FILE).open("wb") as data:
        model = _Decoder(weights, Parts(Data(data)), precision, context).build()
    (folder / GRAPH_FILE).write_bytes(model.SerializeToString())


class _Decoder:
    """One graph in the making. Names of values follow the names of the GGUF tensors they come from."""

    def __init__(self, weights: Weights, parts: Parts, precision: Precision, context: int) -> None:
        self._weights = weights
        self._shape = weights.shape
        self._parts = parts
        self._recipe = RECIPES[precision]
        self._top = FACTS[precision].top
        self._kind: np.dtype[np.generic] = np.dtype(FACTS[precision].element)
        self._element = helper.np_dtype_to_tensor_dtype(self._kind)
        for name, table in zip(("rope.cos", "rope.sin"), weights.rotary.tables(context), strict=True):
            self._tensor(name, table)

    def build(self) -> ModelProto:
        """The whole graph."""
        stream, normed = self._embed(), ""
        for layer in range(self._shape.layers):
            block = f"blk.{layer}"
            normed, stream = self._norm(f"{block}.attn_norm", stream, normed)
            normed, stream = self._norm(f"{block}.ffn_norm", stream, self._attention(layer, normed))
            normed = self._feed_forward(block, normed)
        normed, _ = self._norm("output_norm", stream, normed)
        self._head(self._parts.node("Gather", [normed, "rows"], "output.rows", axis=1))
        return self._model()

    def _embed(self) -> str:
        """Rows of the table; of an int8 table, which stays in the file but for the pages that are read, times their scales."""
        parts = self._parts
        if not self._recipe.packed:
            pieces = [piece.astype(self._kind) for piece in self._weights.pieces("token_embd.weight")]
            return parts.node("Gather", [parts.tensor("token_embd", np.concatenate(pieces)), "input_ids"], "embedded")
        quantised = [quantise_rows(piece) for piece in self._weights.pieces("token_embd.weight")]
        parts.tensor("token_embd", np.concatenate([table for table, _ in quantised]))
        self._tensor("token_embd.scale", np.concatenate([scale for _, scale in quantised])[:, None])
        row = parts.node("Gather", ["token_embd", "input_ids"], "embedded.row")
        row = parts.node("Cast", [row], "embedded.float", to=self._element)
        scale = parts.node("Gather", ["token_embd.scale", "input_ids"], "embedded.scale")
        return parts.node("Mul", [row, scale], "embedded")

    def _norm(self, name: str, stream: str, addend: str) -> tuple[str, str]:
        """RMS norm of stream + addend: (normed, the sum). The first norm has nothing to add."""
        scale = self._tensor(f"{name}.weight", self._weights[f"{name}.weight"])
        normed, total, epsilon = f"{name}.normed", f"{name}.sum", self._shape.norm_epsilon
        if not addend:
            self._parts.node("SimplifiedLayerNormalization", [stream, scale], normed, epsilon=epsilon, axis=-1)
            return normed, stream
        inputs, outputs = [stream, addend, scale], [normed, "", "", total]
        self._parts.node("SkipSimplifiedLayerNormalization", inputs, outputs, domain=CONTRIB, epsilon=epsilon)
        return normed, total

    def _attention(self, layer: int, normed: str) -> str:
        block, shape = f"blk.{layer}", self._shape
        packed = self._project(f"{block}.qkv", normed, [f"{block}.attn_{part}" for part in "qkv"])
        normed_heads = f"{block}.attn_q_norm.weight" in self._weights
        query_key_value = self._norm_heads(block, packed) if normed_heads else [packed, "", ""]
        past, present = cache_names("past", layer), cache_names("present", layer)
        attended = self._parts.node(
            "GroupQueryAttention", [*query_key_value, *past, "lengths", "longest", "rope.cos", "rope.sin"],
            [f"{block}.attended", *present], domain=CONTRIB, num_heads=shape.heads, kv_num_heads=shape.kv_heads,
            do_rotary=1, rotary_interleaved=int(shape.interleaved_rope),
        )  # fmt: skip
        return self._project(f"{block}.attn_output", attended, [f"{block}.attn_output"])

    def _norm_heads(self, block: str, packed: str) -> list[str]:
        """Query, key and value of Qwen3: an RMS norm over each head's query and key, before they turn.

        The attention operator has inputs for it, which only its CUDA and WebGPU kernels heed.
        """
        parts, shape = self._parts, self._shape
        names = [f"{block}.attn_{part}" for part in "qkv"]
        widths = parts.tensor("qkv.widths", np.array([shape.query_width, shape.key_width, shape.key_width], np.int64))
        parts.node("Split", [packed, widths], names, axis=-1)
        heads = parts.tensor("heads", np.array([0, 0, -1, shape.head_dim], np.int64))
        flat = parts.tensor("flat", np.array([0, 0, -1], np.int64))
        for index, name in enumerate(names[:2]):
            split = parts.node("Reshape", [name, heads], f"{name}.heads")
            normed, _ = self._norm(f"{name}_norm", split, "")
            names[index] = parts.node("Reshape", [normed, flat], f"{name}.normed")
        return names

    def _feed_forward(self, block: str, normed: str) -> str:
        parts, gate, up = self._parts, f"{block}.ffn_gate", f"{block}.ffn_up"
        gate_up = self._project(f"{block}.ffn_gate_up", normed, [gate, up])
        parts.node("Split", [gate_up], [gate, up], axis=-1, num_outputs=2)
        activated = parts.node("QuickGelu", [gate], f"{gate}.silu", domain=CONTRIB, alpha=1.0)
        product = parts.node("Mul", [activated, up], f"{block}.ffn_product")
        return self._project(f"{block}.ffn_down", product, [f"{block}.ffn_down"])

    def _head(self, last: str) -> None:
        """The logits in float32, and the likeliest of them where the precision has them."""
        # A tied model has no table of its own for its output.
        table = "output" if "output.weight" in self._weights else "token_embd"
        if self._element == TensorProto.FLOAT:
            self._multiply(self._recipe.head, "output", last, [table], "logits")
        else:
            self._multiply(self._recipe.head, "output", last, [table], "output.narrow")
            self._parts.node("Cast", ["output.narrow"], "logits", to=TensorProto.FLOAT)
        if self._top:
            count = self._parts.tensor("top", np.array([self._top_count()], np.int64))
            self._parts.node("TopK", ["logits", count], [TOP_SCORES, TOP_TOKENS], axis=-1)

    def _project(self, name: str, x: str, tensors: Sequence[str]) -> str:
        """x [.., in] times the tensors [out, in], stacked over `out`, plus their biases where the file has them."""
        output = f"{name}.out"
        if not any(f"{tensor}.bias" in self._weights for tensor in tensors):
            return self._multiply(self._recipe.layers, name, x, tensors, output)
        raw = self._multiply(self._recipe.layers, name, x, tensors, f"{name}.raw")
        bias = self._tensor(f"{name}.bias", np.concatenate([self._bias(tensor) for tensor in tensors]))
        return self._parts.node("Add", [raw, bias], output)

    def _bias(self, tensor: str) -> Array:
        """A tensor's bias, zeros if it alone of its stack has none."""
        if f"{tensor}.bias" in self._weights:
            return self._weights[f"{tensor}.bias"]
        return np.zeros(sum(len(piece) for piece in self._weights.pieces(f"{tensor}.weight")), np.float32)

    def _multiply(self, projection: Projection, name: str, x: str, tensors: Sequence[str], output: str) -> str:
        projection(self._parts, name, x, self._rows(tensors), output)
        return output

    def _rows(self, tensors: Sequence[str]) -> Iterator[Array]:
        """The tensors' rows, in pieces: the whole of a vocabulary in float32 would be half a gigabyte."""
        for tensor in tensors:
            yield from self._weights.pieces(f"{tensor}.weight")

    def _tensor(self, name: str, array: NDArray[np.float32]) -> str:
        """An initializer in the type of the activations."""
        return self._parts.tensor(name, array.astype(self._kind))

    def _top_count(self) -> int:
        return min(TOP, self._shape.vocabulary)

    def _model(self) -> ModelProto:
        shape, value = self._shape, helper.make_tensor_value_info
        inputs = [
            value("input_ids", TensorProto.INT64, ["batch", "length"]),
            value("rows", TensorProto.INT64, ["n"]),
            value("lengths", TensorProto.INT32, ["batch"]),
            value("longest", TensorProto.INT32, []),
            *self._caches("past"),
        ]
        outputs = [value("logits", TensorProto.FLOAT, ["batch", "n", shape.vocabulary]), *self._caches("present")]
        if self._top:
            outputs.append(value(TOP_SCORES, TensorProto.FLOAT, ["batch", "n", self._top_count()]))
            outputs.append(value(TOP_TOKENS, TensorProto.INT64, ["batch", "n", self._top_count()]))
        graph = helper.make_graph(self._parts.nodes, "decoder", inputs, outputs, list(self._parts.tensors.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="milepost")

    def _caches(self, side: Literal["past", "present"]) -> list[ValueInfoProto]:
        shape: Shape = self._shape
        dims: list[str | int | None] = ["batch", shape.kv_heads, "capacity", shape.head_dim]
        names = [name for layer in range(shape.layers) for name in cache_names(side, layer)]
        return [helper.make_tensor_value_info(name, self._element, dims) for name in names]
