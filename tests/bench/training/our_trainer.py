"""Our trainer with a clock, run where torch is: `python our_trainer.py PLAN`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from services.training.data import Data
from services.training.events import Events
from services.training.packing import batches_of
from services.training.plan import Plan
from services.training.trainer import Trainer
from tests.bench.training.clock import Clock


class Timed(Events):
    """Marks the updates that are told of."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(speaks=False)
        self.clock = clock

    def tell(self, event: str, **facts: object) -> None:
        """Only the loss is noted here."""
        if event == "step":
            self.clock.mark()
            self.clock.losses.append(float(str(facts["loss"])))


def main(path: Path) -> None:
    """Train as the plan says, in which one batch is an update."""
    plan, clock = Plan.read(path), Clock()
    torch.set_num_threads(plan.threads or torch.get_num_threads())
    data = Data.read(Path(plan.train), plan)
    for batch in batches_of(data.lengths, plan.length, plan.batch, packing=plan.packing, seed=(plan.seed, 0)):
        lengths = [int(data.lengths[row].sum()) for row in batch]
        clock.tokens.append(sum(lengths))
        clock.width.append(sum(lengths) if plan.packing else max(lengths) * len(lengths))
        clock.learnt.append(int(data.conversation_counts[[one for row in batch for one in row]].sum()))
    gpu = torch.cuda.is_available()
    Trainer(plan, Accelerator(mixed_precision="bf16" if gpu else "no", cpu=not gpu), Timed(clock)).run()
    clock.say()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
