"""Memory of a device, as ONNX Runtime's Python has it: what it has no call for (copies between addresses) runs as a graph."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from services.llm.session import open_session, runtime

if TYPE_CHECKING:
    from onnxruntime import OrtValue

BYTE = 2  # onnx.TensorProto.UINT8
OPSET, IR_VERSION = 21, 10


@dataclass(frozen=True)
class Device:
    """Where tensors lie and graphs run. name: as ONNX Runtime calls it; id: which one of several."""

    name: Literal["cpu", "cuda"]
    id: int = 0

    def holding(self, array: NDArray[np.generic]) -> OrtValue:
        """A tensor on the device with these values; on the CPU it is the array itself."""
        return runtime().OrtValue.ortvalue_from_numpy(array, self.name, self.id)

    def zeros(self, size: int) -> OrtValue:
        """So many bytes of zeros: whatever a kernel reads beyond what was written is at least a number."""
        return self.holding(np.zeros(size, np.uint8))


CPU, CUDA = Device("cpu"), Device("cuda")


def free_memory(device: Device) -> int | None:
    """Free bytes of a GPU by its driver, None where none answers."""
    question = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", f"--id={device.id}"]
    try:
        said = subprocess.run(question, capture_output=True, text=True, timeout=20, check=True).stdout
        return int(said.split()[0]) * 1024 * 1024
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def cuda_answers() -> bool:
    """Whether this build of ONNX Runtime knows CUDA and a driver has a device for it."""
    return "CUDAExecutionProvider" in runtime().get_available_providers() and free_memory(CUDA) is not None


class Copier:
    """Copies `count` blocks of `size` bytes at a time between addresses of a device, or from it to this host."""

    def __init__(self, device: Device, *, count: int, size: int) -> None:
        self._device, self._count, self._size = device, count, size

    def copy(self, moves: Sequence[tuple[int, int]], *, target: Device | None = None) -> None:
        """Copy from the first address to the second of each pair; target: where the second ones lie, if elsewhere."""
        binding = self._session.io_binding()
        here, there = self._device, target or self._device
        for index, (source, destination) in enumerate(moves):
            binding.bind_input(f"from.{index}", here.name, here.id, BYTE, [self._size], source)
            binding.bind_output(f"to.{index}", there.name, there.id, BYTE, [self._size], destination)
        self._session.run_with_iobinding(binding)

    @cached_property
    def _session(self):  # type: ignore[no-untyped-def]  # onnxruntime has no types
        from onnx import TensorProto, helper

        nodes = [helper.make_node("Identity", [f"from.{index}"], [f"to.{index}"]) for index in range(self._count)]
        inputs, outputs = (
            [helper.make_tensor_value_info(f"{side}.{index}", TensorProto.UINT8, [self._size]) for index in range(self._count)]
            for side in ("from", "to")
        )
        graph = helper.make_graph(nodes, "copies", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        return open_session(model.SerializeToString(), threads=1, provider=self._device.name)
