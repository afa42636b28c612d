"""The parts of an ONNX graph in the making: nodes, and initializers whose bulk goes to a data file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from services.llm.interface import DATA_FILE

PAGE = 4096
CONTRIB = "com.microsoft"


class Data:
    """The data file: each large initializer on a page of its own for mmap."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, name: str, array: NDArray[np.generic]) -> TensorProto:
        """The initializer of that name: small ones whole, large ones by their place in the file."""
        array = np.ascontiguousarray(array)
        if array.nbytes < PAGE:
            return numpy_helper.from_array(array, name)
        self._file.write(bytes(-self._file.tell() % PAGE))
        proto = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": DATA_FILE, "offset": self._file.tell(), "length": array.nbytes}
        for key, value in place.items():
            proto.external_data.add(key=key, value=str(value))
        self._file.write(array.view(np.uint8).data)
        return proto


class Parts:
    """Nodes and initializers, each named by the value that it gives."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}

    def tensor(self, name: str, array: NDArray[np.generic]) -> str:
        """An initializer; one of that name is added only once."""
        if name not in self.tensors:
            self.tensors[name] = self._data.write(name, array)
        return name

    def node(
        self, op: str, inputs: Sequence[str], output: str | Sequence[str], *, domain: str = "", **attributes: float
    ) -> str:
        """A node; its first output's name."""
        outputs = [output] if isinstance(output, str) else list(output)
        self.nodes.append(helper.make_node(op, inputs, outputs, None, None, domain, None, **attributes))
        return outputs[0]
