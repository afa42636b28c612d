"""What is to be trained, on what, and how: one JSON file, written by `milepost train` and read where torch is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

WEIGHTS = {"context": 0.0, "answer": 1.0, "markup": 1.0, "name": 2.0, "parameters": 2.0, "url": 2.0, "end": 1.0}
"""Weighted LM (arXiv 2309.00986, appendix B.3): nothing for what users and tools say, 1 for words, 2 for what a call says."""


@dataclass(frozen=True)
class Plan:
    """A training run. base: a folder with config.json and safetensors; train, dev: token files; out: a folder of its own.

    method: full, lora or qlora (4-bit NF4, CUDA only). length, batch: tokens of a packed row, rows of a step on one device;
    accumulate: steps between updates. weights: loss of a token by its kind. steps, epochs: whichever ends first; 0: no bound.
    patience: evaluations without a better dev loss before it ends early; 0: never. save_every, evaluate_every: in updates.
    """

    base: str
    train: str
    dev: str
    out: str
    method: Literal["full", "lora", "qlora"] = "lora"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    learning_rate: float = 2e-4
    warmup: float = 0.03
    decay: float = 0.0
    length: int = 2048
    batch: int = 1
    accumulate: int = 8
    epochs: float = 1.0
    steps: int = 0
    seconds: float = 0.0
    seed: int = 0
    packing: bool = True
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    checkpointing: bool = False
    evaluate_every: int = 50
    save_every: int = 50
    patience: int = 0
    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Raises ValueError or TypeError for what is no plan."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
