"""From what a person asks for to a plan that makes sense, or a word about what does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.errors import Mistyped
from services.training.plan import WEIGHTS, Plan

CALL = ("name", "parameters", "url")  # what `call` stands for in a person's weights
RATES = {"full": 2e-5, "lora": 2e-4, "qlora": 2e-4}
PASSES = 1.0


@dataclass(frozen=True)
class Asked:
    """What a person may say of a training; None: as is usual. minutes: of the trainer's clock."""

    method: Literal["full", "lora", "qlora"] = "lora"
    rank: int = 16
    rate: float | None = None
    length: int = 2048
    batch: int = 1
    accumulate: int = 8
    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    weights: str = ""
    dropout: float = 0.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    checkpointing: bool = False
    every: int = 50
    patience: int = 0
    packing: bool = True
    threads: int = 0


def plan_of(asked: Asked, *, base: str, dev: bool) -> Plan:
    """The plan, its paths within a run's folder. base: where the model will be; dev: whether there is dev data.

    Without epochs, steps or minutes it goes over the data once; with steps or minutes, as often as they allow.
    Raises Mistyped.
    """
    passes = asked.epochs if asked.epochs is not None else 0.0 if asked.steps or asked.minutes else PASSES
    try:
        return Plan(
            base=base, train="train.npz", dev="dev.npz" if dev else "", out=".", method=asked.method, rank=asked.rank,
            alpha=2 * asked.rank, dropout=asked.dropout, learning_rate=asked.rate or RATES[asked.method], length=asked.length,
            batch=asked.batch, accumulate=asked.accumulate, epochs=passes, steps=asked.steps or 0,
            seconds=60 * (asked.minutes or 0), seed=asked.seed, packing=asked.packing, precision=asked.precision,
            checkpointing=asked.checkpointing, evaluate_every=asked.every, save_every=asked.every, patience=asked.patience,
            threads=asked.threads, weights=weights_of(asked.weights),
        )  # fmt: skip
    except ValueError as error:
        raise Mistyped("This cannot be trained.", why=str(error), hint="milepost train --help") from error


def weights_of(said: str) -> dict[str, float]:
    """Loss weights by kind of token, from `call=2,answer=1`; what is not named keeps its own. Raises Mistyped."""
    weights = dict(WEIGHTS)
    for each in filter(None, (part.strip() for part in said.split(","))):
        name, _, value = each.partition("=")
        kinds = CALL if name.strip() == "call" else (name.strip(),)
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not set(kinds) <= set(WEIGHTS) or not 0 <= weight < float("inf"):
            raise Mistyped(
                f"{each!r} is no weight.", why=f"kinds of tokens are {', '.join(WEIGHTS)}; call is {', '.join(CALL)}",
                hint="--weights call=2,answer=1",
            )  # fmt: skip
        weights.update(dict.fromkeys(kinds, weight))
    return weights
