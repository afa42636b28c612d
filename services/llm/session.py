"""Opening ONNX Runtime sessions that run where they were asked to and send nothing home."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from schemas.errors import MilepostError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Provider: TypeAlias = Literal["auto", "cpu", "cuda"]

# The int8 graph is made for CPUs, so that is where it runs unless a person says otherwise.
PROVIDERS: dict[Provider, str] = {
    "auto": "CPUExecutionProvider",
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}


class RuntimeConflict(MilepostError):
    """Both builds of ONNX Runtime are installed; the one installed last has overwritten the other."""

    def __init__(self) -> None:
        super().__init__(
            "Both onnxruntime and onnxruntime-gpu are installed.",
            why="they write into the same folder, so that one of them is broken",
            hint="pip uninstall -y onnxruntime onnxruntime-gpu, then install one of them (the second runs on CPUs, too)",
        )


class ModelBroken(MilepostError):
    """A folder holds no built model, or not all of one."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"{folder} holds no model that can be served.", why=why, hint="remove the folder, then `milepost models pull`"
        )
        self.folder = folder


class ProviderMissing(MilepostError):
    """ONNX Runtime would run the model elsewhere than asked."""

    def __init__(self, wanted: str, got: str) -> None:
        super().__init__(
            f"The model was asked to run on {wanted}, ONNX Runtime gave {got}.",
            why="its build or the driver of this machine has no such device",
            hint="install onnxruntime-gpu[cuda,cudnn] on a machine with an NVIDIA driver, or set the provider to cpu",
        )


def open_session(path: Path, *, threads: int, provider: Provider) -> InferenceSession:
    """An ONNX Runtime session that runs where it was asked to and sends nothing home.

    Raises RuntimeConflict, ProviderMissing and ModelBroken.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    refuse_two_runtimes()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Lengths differ from step to step: a plan of memory for each of them would only cost memory.
    options.enable_mem_pattern = False
    # Spinning threads would take the cores that the other services of this machine need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider == "cuda":
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[PROVIDERS[provider]])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ModelBroken(path.parent, str(error)[:300]) from error
    got = session.get_providers()[0]
    if got != PROVIDERS[provider]:
        raise ProviderMissing(PROVIDERS[provider], got)
    return session


def refuse_two_runtimes() -> None:
    """RuntimeConflict if both distributions of ONNX Runtime are there."""
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        raise RuntimeConflict


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
