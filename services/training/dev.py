"""How well a model predicts conversations it does not learn: the weighted loss, and loss and accuracy by kind of token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from services.training import packing
from services.training.batch import arrays
from services.training.data import Data
from services.training.plan import Plan


@dataclass(frozen=True)
class Scores:
    """loss: the weighted one; losses, accuracy: the mean loss and the part predicted rightly, by kind; tokens: how many."""

    loss: float
    losses: dict[str, float]
    accuracy: dict[str, float]
    tokens: dict[str, int]


def measure(model: torch.nn.Module, data: Data, plan: Plan, accelerator: Accelerator) -> Scores:
    """Over all of `data`, shared among the processes. The model is left in evaluation mode."""
    names = data.file.names
    sums = np.zeros((len(names), 3))
    batches = packing.batches_of(data.lengths, plan.length, plan.batch, packing=plan.packing, seed=None)
    model.eval()
    with torch.no_grad():
        for batch in batches[accelerator.process_index :: accelerator.num_processes]:
            made = arrays(data.file, data.weights, batch, packed=plan.packing)
            losses, hits = model(made)
            for column, values in enumerate((np.ones(len(made.kinds)), losses.double().cpu().numpy(), hits.cpu().numpy())):
                sums[:, column] += np.bincount(made.kinds, values, len(names))
    sums = accelerator.reduce(torch.from_numpy(sums).to(accelerator.device), "sum").cpu().numpy()
    kinds = [(name, *sums[at]) for at, name in enumerate(names) if sums[at, 0]]
    weights = {name: plan.weights[name] * count for name, count, _, _ in kinds}
    return Scores(
        float(sum(plan.weights[name] * lost for name, _, lost, _ in kinds) / sum(weights.values())),
        {name: float(lost / count) for name, count, lost, _ in kinds},
        {name: float(right / count) for name, count, _, right in kinds},
        {name: int(count) for name, count, _, _ in kinds},
    )
