"""Plain transformers Trainer with peft, run where torch is: `python plain_trainer.py BASE TOKENS WAY ROWS THREADS`.

As its documentation shows it: rows padded to the longest of their batch, labels -100 where nothing is to be learnt, and logits
for every token. WAY: plain; grouped (its batches of nearly one length); flattened (its collator that puts a batch's rows behind
each other without padding). One batch is an update. The last line is what it took, as JSON.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, DataCollatorWithFlattening, Trainer, TrainerCallback, TrainingArguments

from services.training.plan import Plan
from tests.bench.training.clock import Clock
from tests.bench.training.run import RATE

Row = dict[str, list[int]]


class Marks(TrainerCallback):  # type: ignore[misc]  # torch is not where types are checked
    """When each update ended, and its loss."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, *_: object, **__: object) -> None:
        self.clock.mark()

    def on_log(self, *_: object, logs: dict[str, float], **__: object) -> None:
        if "loss" in logs:
            self.clock.losses.append(logs["loss"])


def padded(batch: list[Row]) -> dict[str, torch.Tensor]:
    """To the longest row, as the library's collators do."""
    width = max(len(row["input_ids"]) for row in batch)
    made = {
        key: [row[key] + [fill] * (width - len(row[key])) for row in batch]
        for key, fill in (("input_ids", 0), ("labels", -100))
    }
    made["attention_mask"] = [[int(at < len(row["input_ids"])) for at in range(width)] for row in batch]
    return {key: torch.tensor(one) for key, one in made.items()}


def collator(way: str, clock: Clock) -> Callable[[list[Row]], dict[str, torch.Tensor]]:
    """Rows to tensors, counted: the loader may be a batch ahead of the updates, so each batch stands for itself."""
    collate = DataCollatorWithFlattening() if way == "flattened" else padded

    def counted(batch: list[Row]) -> dict[str, torch.Tensor]:
        made: dict[str, torch.Tensor] = collate(batch)
        clock.tokens.append(sum(len(row["input_ids"]) for row in batch))
        clock.width.append(made["input_ids"].numel())
        clock.learnt.append(sum(int(label != -100) for row in batch for label in row["labels"][1:]))
        return made

    return counted


def main(base: str, tokens: str, way: str, rows: int, threads: int) -> None:
    """Train once over the data."""
    torch.set_num_threads(threads or torch.get_num_threads())
    held, like = np.load(tokens), Plan(base, tokens, "", "")
    spans = [slice(int(a), int(b)) for a, b in zip(held["offsets"], held["offsets"][1:], strict=False)]
    learnt = held["kinds"] != list(held["names"]).index("context")
    labels = np.where(learnt, held["tokens"], -100)
    data = [{"input_ids": held["tokens"][span].tolist(), "labels": labels[span].tolist()} for span in spans]
    clock = Clock()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    lora = LoraConfig(r=like.rank, lora_alpha=like.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, per_device_train_batch_size=rows, num_train_epochs=1, learning_rate=RATE, report_to=[], save_strategy="no",
            logging_strategy="steps", logging_steps=1, disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available(), remove_unused_columns=False,
            train_sampling_strategy="group_by_length" if way == "grouped" else "random",
        )  # fmt: skip
        trainer = Trainer(
            get_peft_model(model, lora), arguments, train_dataset=data, data_collator=collator(way, clock),
            callbacks=[Marks(clock)],
        )  # fmt: skip
        trainer.train()
    clock.say()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
