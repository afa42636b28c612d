"""Which decoder runs a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from schemas.errors import MilepostError
from services.llm.cpu_decoder import CpuDecoder
from services.llm.cuda_decoder import CudaDecoder
from services.llm.decoder import Decoder
from services.llm.device import cuda_answers
from services.llm.exported_decoder import ExportedDecoder
from services.llm.interface import FACTS, Precision
from services.llm.session import PROVIDERS, Provider, ProviderMissing, cores
from services.llm.weights import Shape

# int8 reads prompts fastest on CPUs. On GPUs bfloat16 has the range that models are trained in, but weights that come from a
# quantised file keep more of their digits in fp16.
BEST: dict[Literal["cpu", "cuda"], Precision] = {"cpu": "int8", "cuda": "fp16"}


class PrecisionElsewhere(MilepostError):
    """A graph was made for another kind of device than it was asked to run on."""

    def __init__(self, folder: Path, precision: str, provider: Provider) -> None:
        other = BEST["cuda" if provider == "cuda" else "cpu"]
        super().__init__(
            f"The {precision} graph in {folder} does not run on {provider}.",
            why="its operators and types have kernels for the other kind of device alone",
            hint=f"milepost models build NAME --precision {other}, or set the provider to auto",
        )


def open_decoder(
    folder: Path, shape: Shape | None, precision: Precision, *, slots: int, capacity: int, threads: int | None = None,
    provider: Provider = "auto",
) -> Decoder:  # fmt: skip
    """The decoder for a built folder. shape: None for an exporter's graph; threads: one a physical core if None.

    provider: auto is what the precision is made for. Raises PrecisionElsewhere, ProviderMissing, RuntimeConflict,
    ModelBroken, DeviceTooSmall, NotServable.
    """
    device = FACTS[precision].device if shape else "cpu"
    if provider not in ("auto", device):
        raise PrecisionElsewhere(folder, precision if shape else "exported", provider)
    threads = threads or cores()
    if shape is None:
        return ExportedDecoder(folder, slots=slots, capacity=capacity, threads=threads)
    if device == "cpu":
        return CpuDecoder(folder, shape, slots=slots, capacity=capacity, threads=threads, precision=precision)
    if not cuda_answers():
        raise ProviderMissing(PROVIDERS["cuda"], "no such device")
    return CudaDecoder(folder, shape, slots=slots, capacity=capacity, precision=precision)
