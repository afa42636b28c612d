"""Opening ONNX Runtime sessions that run where they were asked to and send nothing home."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, TypeAlias

import psutil

from schemas.errors import MilepostError
from services.llm.interface import FACTS, TOP_SCORES, TOP_TOKENS, Element, Precision, cache_names

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

    from services.llm.weights import Shape

Provider: TypeAlias = Literal["auto", "cpu", "cuda"]

CUDA = "CUDAExecutionProvider"
# A graph that is made for CPUs runs there unless a person says otherwise.
PROVIDERS: dict[Provider, str] = {"auto": "CPUExecutionProvider", "cpu": "CPUExecutionProvider", "cuda": CUDA}

# Element types as ONNX Runtime writes them.
KINDS: dict[Element, str] = {"float32": "tensor(float)", "float16": "tensor(float16)", "bfloat16": "tensor(bfloat16)"}
SIDES: tuple[Literal["past", "present"], ...] = ("past", "present")

# Between the parallel parts of a step lie microseconds, between steps a guide and a queue. A pool whose threads sleep at every
# part loses a sixth of Qwen 0.5B's decode and a third of SmolLM2's on free cores; one that spins for 50 microseconds loses
# nothing against ONNX Runtime's own setting, which spins on for 40 milliseconds after the last step and, where others want
# the cores, too, waits for itself (a step of Qwen there: 42 ms asleep, 48 ms at 50 us, 61 ms at 200 us, 64 ms by itself).
SPIN_US = 50


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
            f"{folder} holds no model that can be served.",
            why=why,
            hint="remove the folder, then `milepost models build NAME` (`milepost models verify` looks at the weights)",
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


@cache
def runtime() -> ModuleType:
    """The module onnxruntime, told before its import to send nothing home. Raises RuntimeConflict."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    refuse_two_runtimes()
    import onnxruntime

    return onnxruntime  # type: ignore[no-any-return]  # onnxruntime has no types


def cores() -> int:
    """Threads that compute best: one for each physical core that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def open_session(source: Path | bytes, *, threads: int, provider: Provider, captured: bool = False) -> InferenceSession:
    """An ONNX Runtime session of a file or a model's bytes that runs where it was asked to, all of it.

    captured: with CUDA, steps become CUDA graphs (https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html).
    Raises RuntimeConflict, ProviderMissing and, of a file, ModelBroken.
    """
    onnxruntime, wanted = runtime(), PROVIDERS[provider]
    if wanted not in onnxruntime.get_available_providers():
        raise ProviderMissing(wanted, "a build without it")
    if wanted == CUDA:
        with redirect_stdout(sys.stderr):  # it prints what it does not find
            onnxruntime.preload_dlls()
    where = (wanted, _device_options(captured=captured)) if wanted == CUDA else wanted
    model = source if isinstance(source, bytes) else str(source)
    try:
        session = onnxruntime.InferenceSession(model, _options(threads, wanted), providers=[where], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's errors have no common class
        if "fallback to CPU EP" in str(error):
            raise ProviderMissing(wanted, "the CPU for a part of it or all") from error
        if isinstance(source, bytes):
            raise
        raise ModelBroken(source.parent, " ".join(str(error).split())[:300]) from error
    got = session.get_providers()[0]
    if got != wanted:
        raise ProviderMissing(wanted, got)
    return session


def refuse_other_graph(session: InferenceSession, folder: Path, shape: Shape, precision: Precision) -> None:
    """ModelBroken if a graph is not as interface.py has it for this shape and precision."""
    kind, top = KINDS[FACTS[precision].element], [TOP_SCORES, TOP_TOKENS] if FACTS[precision].top else []
    got = {each.name: each for each in [*session.get_inputs(), *session.get_outputs()]}
    caches = [name for side in SIDES for layer in range(shape.layers) for name in cache_names(side, layer)]
    wanted = ["input_ids", "rows", "lengths", "longest", "logits", *caches, *top]
    if missing := [name for name in wanted if name not in got]:
        raise ModelBroken(folder, f"its graph has no {', '.join(missing[:5])}")
    if strange := sorted(each.name for each in session.get_inputs() if each.name not in wanted):
        raise ModelBroken(folder, f"its graph asks for {', '.join(strange[:5])}")
    for each in (got[name] for name in caches):
        if each.type != kind or [each.shape[1], each.shape[3]] != [shape.kv_heads, shape.head_dim]:
            raise ModelBroken(folder, f"its {each.name} is {each.type} {each.shape}, its manifest says otherwise")
    if got["logits"].shape[-1] != shape.vocabulary:
        raise ModelBroken(folder, f"its graph knows {got['logits'].shape[-1]} tokens, its manifest says {shape.vocabulary}")


def _options(threads: int, provider: str) -> SessionOptions:
    options = runtime().SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Lengths differ from step to step: a plan of memory for each of them would only cost memory.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    if provider == CUDA:
        # Without it a node that CUDA cannot run, or all of them where no driver is, would quietly run on the CPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _device_options(*, captured: bool) -> dict[str, str]:
    return {"device_id": "0", "arena_extend_strategy": "kSameAsRequested", "enable_cuda_graph": str(int(captured))}


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
