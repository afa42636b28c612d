"""The ways to multiply activations by a weight matrix: dense, 8 bit by 8 bit, and 4 bit blocks.

Operators of com.microsoft: MatMulIntegerToFloat, MatMulNBits
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from services.llm.parts import CONTRIB, Parts
from services.llm.quantise import quantise_blocks, quantise_rows
from services.llm.weights import Array

ACCURACY = 4  # activations in 8 bits, a scale for each block: several times faster than unpacking the weights


class Projection(Protocol):
    """A way to multiply."""

    def __call__(self, parts: Parts, name: str, x: str, rows: Iterable[Array], output: str) -> None:
        """Add the nodes of output [.., out] = x [.., in] times the matrix [out, in], which comes in slices of its rows."""
        ...


@dataclass(frozen=True)
class Dense:
    """Weights as they are, in one type of float."""

    kind: DTypeLike

    def __call__(self, parts: Parts, name: str, x: str, rows: Iterable[Array], output: str) -> None:
        matrix = np.concatenate([piece.astype(self.kind) for piece in rows])
        parts.node("MatMul", [x, parts.tensor(f"{name}.weight", matrix.T)], output)


@dataclass(frozen=True)
class Int8:
    """Weights int8 with a scale per output, activations 8 bit with a scale per token.

    The scale per token is what keeps a row's result the same whatever stands beside it in the batch, and what keeps
    the outliers of one token from blurring the others. A token of nothing but zeros is divided by zero and still comes
    out as zeros: whatever its bytes become, they are multiplied by that zero.
    """

    def __call__(self, parts: Parts, name: str, x: str, rows: Iterable[Array], output: str) -> None:
        quantised = [quantise_rows(piece) for piece in rows]
        weight = parts.tensor(f"{name}.weight", np.concatenate([table for table, _ in quantised]).T)
        scale = parts.tensor(f"{name}.scale", np.concatenate([scale for _, scale in quantised]))
        step = parts.tensor("step", np.array(1 / 127, np.float32))
        zero = parts.tensor("zero", np.array(128, np.uint8))
        axis = parts.tensor("last_axis", np.array([-1], np.int64))
        largest = parts.node("ReduceMax", [parts.node("Abs", [x], f"{name}.abs"), axis], f"{name}.largest", keepdims=1)
        scaled = parts.node("Div", [x, largest], f"{name}.scaled")
        rounded = parts.node("QuantizeLinear", [scaled, step, zero], f"{name}.bytes")
        operands = [rounded, weight, step, scale, zero]
        product = parts.node("MatMulIntegerToFloat", operands, f"{name}.product", domain=CONTRIB)
        parts.node("Mul", [product, largest], output)


@dataclass(frozen=True)
class Int4:
    """Weights in blocks of 4 bits with scales of one type of float; activations 8 bit within the operator."""

    kind: DTypeLike = np.float32
    block: int = 32

    def __call__(self, parts: Parts, name: str, x: str, rows: Iterable[Array], output: str) -> None:
        width, quantised = 0, []
        for piece in rows:
            width = piece.shape[1]
            quantised.append(quantise_blocks(piece, self.block))
        values, scales, zeros = (np.concatenate(part) for part in zip(*quantised, strict=True))
        operands = [
            x,
            parts.tensor(f"{name}.blocks", values),
            parts.tensor(f"{name}.scales", scales.astype(self.kind)),
            parts.tensor(f"{name}.zeros", zeros),
        ]
        sizes = {"K": width, "N": len(values), "bits": 4, "block_size": self.block, "accuracy_level": ACCURACY}
        parts.node("MatMulNBits", operands, output, domain=CONTRIB, **sizes)
