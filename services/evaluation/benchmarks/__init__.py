"""The benchmarks: one file each, with a BENCHMARK in it."""

from __future__ import annotations

from importlib import import_module

from schemas.errors import MilepostError
from services.evaluation.benchmark import Benchmark

NAMES = (
    "bfcl", "hammerbench", "seal-tools", "msagent", "toolalpaca", "restbench", "nestful", "metatool", "rotbench", "sgd-x",
    "tau2", "tooltalk", "dialogues", "injection",
)  # fmt: skip


def benchmark(name: str) -> Benchmark:
    """A benchmark by its name. Raises MilepostError for one that nobody knows."""
    if name not in NAMES:
        raise MilepostError(f"There is no benchmark {name!r}.", why=f"there are {', '.join(NAMES)}", hint="milepost eval ls")
    found: Benchmark = import_module(f"{__name__}.{name.replace('-', '_')}").BENCHMARK
    return found
