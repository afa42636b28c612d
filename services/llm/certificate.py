"""Under what a generation ran, so that it can be run again token for token."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from schemas.canonical import digest
from schemas.messages import Certificate
from services.llm.decoder import Decoder

# The instruction sets by which ONNX Runtime's kernels (MLAS) are chosen.
SETS = (
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "sve",
    "bf16",
)


def certificate(decoder: Decoder, prompt: Sequence[int], said: Sequence[int]) -> Certificate:
    """The certificate of a generation that a decoder computed."""
    return Certificate(
        engine=_engine(), machine=f"{decoder.provider} {_machine()}", precision=decoder.precision, threads=decoder.threads,
        chunk=decoder.chunk, tokens_hash=digest("tokens", *(np.array(each, "<i8").tobytes() for each in (prompt, said))),
    )  # fmt: skip


@cache
def _engine() -> str:
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "onnxruntime unknown"


@cache
def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    return " ".join([platform.machine(), *(name for name in SETS if name in flags)])
