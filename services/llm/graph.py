"""Building the ONNX graph of a Llama-like or Qwen2-like decoder, without torch: about 45 small nodes a layer.

Inputs: input_ids [batch, length] int64; rows [n] int64, the positions of `length` whose logits are wanted;
lengths [batch] int32, valid tokens of a row after this step, less one; longest int32, the largest valid length;
past.<layer>.key and .value [batch, kv_heads, capacity, head_dim] float32.
Outputs: logits [batch, n, vocabulary] float32; present.<layer>.key and .value, to be bound to the past's memory.

Operators of com.microsoft: GroupQueryAttention with rotary positions inside, SkipSimplifiedLayerNormalization, QuickGelu,
MatMulIntegerToFloat (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from services.llm.interface import DATA_FILE, GRAPH_FILE, cache_names
from services.llm.weights import Array, Shape, Weights

Precision: TypeAlias = Literal["fp32", "int8"]

PAGE = 4096
CONTRIB = "com.microsoft"
OPSET = 21
IR_VERSION = 10


def write_graph(weights: Weights, folder: Path, *, precision: Precision, context: int) -> None:
    """Write model.onnx and model.onnx.data; context: tokens that the rotary tables reach."""
    with (folder / DATA_FILE).open("wb") as data:
        decoder = _Decoder(weights, _Tensors(data), precision, context)
        model = decoder.build()
    (folder / GRAPH_FILE).write_bytes(model.SerializeToString())


class _Tensors:
    """The initializers: small ones in the graph, large ones in the data file, each on a page of its own for mmap."""

    def __init__(self, data: BinaryIO) -> None:
        self._data = data
        self.protos: list[TensorProto] = []

    def add(self, name: str, array: NDArray[np.generic]) -> str:
        array = np.ascontiguousarray(array)
        if array.nbytes < PAGE:
            self.protos.append(numpy_helper.from_array(array, name))
            return name
        self._data.write(bytes(-self._data.tell() % PAGE))
        proto = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": DATA_FILE, "offset": self._data.tell(), "length": array.nbytes}
        for key, value in place.items():
            proto.external_data.add(key=key, value=str(value))
        self._data.write(array.data)
        self.protos.append(proto)
        return name


class _Decoder:
    """One graph in the making. Names of values follow the names of the GGUF tensors they come from."""

    def __init__(self, weights: Weights, tensors: _Tensors, precision: Precision, context: int) -> None:
        self._weights = weights
        self._shape = weights.shape
        self._tensors = tensors
        self._precision = precision
        self._context = context
        self._nodes: list[NodeProto] = []

    def build(self) -> ModelProto:
        self._constants()
        stream, normed = self._embed(), ""
        for layer in range(self._shape.layers):
            block = f"blk.{layer}"
            normed, stream = self._norm(f"{block}.attn_norm", stream, normed)
            normed, stream = self._norm(f"{block}.ffn_norm", stream, self._attention(layer, normed))
            normed = self._feed_forward(block, normed)
        normed, _ = self._norm("output_norm", stream, normed)
        last = self._node("Gather", [normed, "rows"], "output.rows", axis=1)
        # A tied model has no table of its own for its output.
        self._project("output", last, ["output" if "output.weight" in self._weights else "token_embd"], output="logits")
        return self._model()

    def _constants(self) -> None:
        shape = self._shape
        frequency = shape.rope_base ** -(np.arange(0, shape.head_dim, 2) / shape.head_dim)
        angle = np.outer(np.arange(self._context), frequency)
        self._tensors.add("rope.cos", np.cos(angle).astype(np.float32))
        self._tensors.add("rope.sin", np.sin(angle).astype(np.float32))
        self._tensors.add("step", np.array(1 / 127, np.float32))
        self._tensors.add("least", np.array(1e-12, np.float32))
        self._tensors.add("middle", np.array(128.5, np.float32))
        self._tensors.add("zero", np.array(128, np.uint8))
        self._tensors.add("one", np.array(1, np.float32))
        self._tensors.add("last_axis", np.array([-1], np.int64))

    def _embed(self) -> str:
        """Rows of the int8 table times their scales; the table stays in the file but for the pages that are read."""
        if self._precision == "fp32":
            self._tensors.add("token_embd", self._weights["token_embd.weight"])
            return self._node("Gather", ["token_embd", "input_ids"], "embedded")
        table, scale = self._quantised("token_embd")
        self._tensors.add("token_embd", table)
        self._tensors.add("token_embd.scale", scale[:, None])
        row = self._node("Gather", ["token_embd", "input_ids"], "embedded.row")
        row = self._node("Cast", [row], "embedded.float", to=TensorProto.FLOAT)
        row_scale = self._node("Gather", ["token_embd.scale", "input_ids"], "embedded.scale")
        return self._node("Mul", [row, row_scale], "embedded")

    def _norm(self, name: str, stream: str, addend: str) -> tuple[str, str]:
        """RMS norm of stream + addend: (normed, the sum). The first norm has nothing to add."""
        scale = self._tensors.add(f"{name}.weight", self._weights[f"{name}.weight"])
        normed, total = f"{name}.normed", f"{name}.sum"
        epsilon = self._shape.norm_epsilon
        if not addend:
            node = helper.make_node("SimplifiedLayerNormalization", [stream, scale], [normed], epsilon=epsilon, axis=-1)
            self._nodes.append(node)
            return normed, stream
        self._nodes.append(
            helper.make_node(
                "SkipSimplifiedLayerNormalization", [stream, addend, scale], [normed, "", "", total],
                domain=CONTRIB, epsilon=epsilon,
            )
        )  # fmt: skip
        return normed, total

    def _attention(self, layer: int, normed: str) -> str:
        block, shape = f"blk.{layer}", self._shape
        parts = [f"{block}.attn_{part}" for part in "qkv"]
        packed = self._project(f"{block}.qkv", normed, parts)
        attended = f"{block}.attended"
        past, present = cache_names("past", layer), cache_names("present", layer)
        self._nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [packed, "", "", *past, "lengths", "longest", "rope.cos", "rope.sin"], [attended, *present],
                domain=CONTRIB, num_heads=shape.heads, kv_num_heads=shape.kv_heads, do_rotary=1,
                rotary_interleaved=int(shape.interleaved_rope),
            )
        )  # fmt: skip
        return self._project(f"{block}.attn_output", attended, [f"{block}.attn_output"])

    def _feed_forward(self, block: str, normed: str) -> str:
        gate_up = self._project(f"{block}.ffn_gate_up", normed, [f"{block}.ffn_gate", f"{block}.ffn_up"])
        gate, up = f"{block}.ffn_gate", f"{block}.ffn_up"
        self._nodes.append(helper.make_node("Split", [gate_up], [gate, up], axis=-1, num_outputs=2))
        activated = self._node("QuickGelu", [gate], f"{gate}.silu", domain=CONTRIB, alpha=1.0)
        product = self._node("Mul", [activated, up], f"{block}.ffn_product")
        return self._project(f"{block}.ffn_down", product, [f"{block}.ffn_down"])

    def _project(self, name: str, x: str, tensors: Sequence[str], *, output: str = "") -> str:
        """x [.., in] times the tensors [out, in], stacked over `out`, plus their biases where the file has them."""
        biases = [tensor for tensor in tensors if f"{tensor}.bias" in self._weights]
        output = output or f"{name}.out"
        raw = f"{name}.raw" if biases else output
        match self._precision:
            case "fp32":
                matrix = np.concatenate([self._weights[f"{tensor}.weight"] for tensor in tensors])
                self._node("MatMul", [x, self._tensors.add(f"{name}.weight", matrix.T)], raw)
            case "int8":
                self._project_int8(name, x, tensors, raw)
        if biases:
            bias = np.concatenate([self._weights[f"{tensor}.bias"] for tensor in biases])
            self._node("Add", [raw, self._tensors.add(f"{name}.bias", bias)], output)
        return output

    def _project_int8(self, name: str, x: str, tensors: Sequence[str], output: str) -> None:
        """Weights int8 with a scale per output, activations 8 bit with a scale per token.

        The scale per token is what keeps a row's result the same whatever stands beside it in the batch, and
        what keeps the outliers of one token from blurring the others.
        """
        quantised = [self._quantised(tensor) for tensor in tensors]
        self._tensors.add(f"{name}.weight", np.concatenate([table for table, _ in quantised]).T)
        self._tensors.add(f"{name}.scale", np.concatenate([scale for _, scale in quantised]))
        size = self._node("Abs", [x], f"{name}.abs")
        size = self._node("ReduceMax", [size, "last_axis"], f"{name}.max", keepdims=1)
        size = self._node("Max", [self._node("Mul", [size, "step"], f"{name}.step"), "least"], f"{name}.token_scale")
        scaled = self._node("Add", [self._node("Div", [x, size], f"{name}.scaled"), "middle"], f"{name}.shifted")
        rounded = self._node("Cast", [scaled], f"{name}.bytes", to=TensorProto.UINT8)
        operands = [rounded, f"{name}.weight", "one", f"{name}.scale", "zero"]
        product = self._node("MatMulIntegerToFloat", operands, f"{name}.product", domain=CONTRIB)
        self._node("Mul", [product, size], output)

    def _quantised(self, tensor: str) -> tuple[NDArray[np.int8], Array]:
        """A tensor by quantise_rows, in pieces: the whole of a vocabulary in float32 would be half a gigabyte."""
        pieces = [quantise_rows(rows) for rows in self._weights.pieces(f"{tensor}.weight")]
        return np.concatenate([table for table, _ in pieces]), np.concatenate([scale for _, scale in pieces])

    def _node(self, op: str, inputs: list[str], output: str, *, domain: str = "", **attributes: float) -> str:
        self._nodes.append(helper.make_node(op, inputs, [output], None, None, domain, None, **attributes))
        return output

    def _model(self) -> ModelProto:
        graph: GraphProto = helper.make_graph(
            self._nodes, "decoder", _inputs(self._shape), _outputs(self._shape), self._tensors.protos
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="milepost")


def quantise_rows(matrix: Array) -> tuple[NDArray[np.int8], Array]:
    """int8 [out, in] and a float32 scale per row, symmetric: row = int8 * scale."""
    scale = np.maximum(np.abs(matrix).max(axis=1) / 127, 1e-12).astype(np.float32)
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale


def _inputs(shape: Shape) -> list[ValueInfoProto]:
    fixed = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"]),
        helper.make_tensor_value_info("rows", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("longest", TensorProto.INT32, []),
    ]
    return [*fixed, *_caches("past", shape)]


def _outputs(shape: Shape) -> list[ValueInfoProto]:
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "n", shape.vocabulary])
    return [logits, *_caches("present", shape)]


def _caches(side: Literal["past", "present"], shape: Shape) -> list[ValueInfoProto]:
    dims: list[str | int | None] = ["batch", shape.kv_heads, "capacity", shape.head_dim]
    names = [name for layer in range(shape.layers) for name in cache_names(side, layer)]
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in names]
