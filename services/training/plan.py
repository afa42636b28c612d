"""What is to be trained, on what, and how: one JSON file, written by `milepost train` and read where torch is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args

WEIGHTS = {"context": 0.0, "answer": 1.0, "markup": 1.0, "name": 2.0, "parameters": 2.0, "url": 2.0, "end": 1.0}
"""Weighted LM (arXiv 2309.00986, appendix B.3): nothing for what users and tools say, 1 for words, 2 for what a call says."""

Method = Literal["full", "lora", "qlora"]
Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True)
class Plan:
    """A training run. base: a folder with config.json and safetensors; train, dev: token files; out: a folder of its own.

    method: full, lora or qlora (4-bit NF4, CUDA only). length, batch: tokens of a packed row, rows of a step on one device;
    accumulate: steps between updates. weights: loss of a token by its kind. steps, epochs: whichever ends first; 0: no bound.
    seconds: ends after so long, and the learning rate falls with the time; 0: no bound. warmup: part of the updates in which
    the learning rate rises; it falls as a cosine after. decay: AdamW's; clip: the longest gradient, 0: any.
    patience: evaluations without a better dev loss before it ends early; 0: never. save_every, evaluate_every: in updates,
    0: only at the end. threads: of the CPU, 0: as torch finds. Raises ValueError where a value makes no sense.
    """

    base: str
    train: str
    dev: str
    out: str
    method: Method = "lora"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    learning_rate: float = 2e-4
    warmup: float = 0.03
    decay: float = 0.0
    clip: float = 1.0
    length: int = 2048
    batch: int = 1
    accumulate: int = 8
    epochs: float = 1.0
    steps: int = 0
    seconds: float = 0.0
    seed: int = 0
    packing: bool = True
    precision: Precision = "auto"
    checkpointing: bool = False
    evaluate_every: int = 50
    save_every: int = 50
    patience: int = 0
    threads: int = 0
    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))

    def __post_init__(self) -> None:
        for name, kinds in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ValueError(f"{name} is {value!r}, which is no {kinds[0].__name__}")
        for name in ("rank", "alpha", "batch", "accumulate"):
            self._at_least(name, 1)
        self._at_least("length", 2)
        for name in ("warmup", "decay", "clip", "epochs", "steps", "seconds", "seed", "patience", "threads"):
            self._at_least(name, 0)
        for name in ("evaluate_every", "save_every"):
            self._at_least(name, 0)
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}; it lies between 0 and 1")
        if not (0 <= self.dropout < 1 and self.warmup <= 1):
            raise ValueError("dropout and warmup lie between 0 and 1")
        if self.method not in get_args(Method):
            raise ValueError(f"method is {self.method!r}; there are {', '.join(get_args(Method))}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision is {self.precision!r}; there are {', '.join(get_args(Precision))}")
        if not (self.epochs or self.steps or self.seconds):
            raise ValueError("epochs, steps and seconds are all 0: it would never end")
        for kind, weight in self.weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {kind} is {weight!r}; it is a number and not below 0")

    def _at_least(self, name: str, least: int) -> None:
        if not least <= getattr(self, name) < float("inf"):
            raise ValueError(f"{name} is {getattr(self, name)}; it is at least {least}")

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Raises OSError for what cannot be read and ValueError or TypeError for what is no plan, keys it does not know too."""
        held = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(held, dict):
            raise ValueError("a plan is a JSON object")
        if unknown := sorted(set(held) - {one.name for one in fields(cls)}):
            raise ValueError(f"a plan has no {', '.join(unknown)}")
        return cls(**held)

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


_OF: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,), "dict": (dict,)}
_TYPES = {one.name: _OF[str(one.type).split("[")[0]] for one in fields(Plan) if str(one.type).split("[")[0] in _OF}
