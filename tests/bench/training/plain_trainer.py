"""Plain transformers Trainer with peft, run where torch is: `python plain_trainer.py BASE TOKENS WAY ROWS`.

As its documentation shows it: rows padded to the longest of their batch, labels -100 where nothing is to be learnt, and logits
for every token. WAY: plain, or grouped (batches of nearly one length). The last line says tokens/s after the first update,
without padding, and the most memory it held.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

ROWS_OF_AN_UPDATE = 8


class Clock(TrainerCallback):  # type: ignore[misc]
    """When each update ended, and how many tokens it had."""

    def __init__(self) -> None:
        self.tokens, self.marks = 0, [(time.perf_counter(), 0)]

    def on_step_end(self, *_: object, **__: object) -> None:
        self.marks.append((time.perf_counter(), self.tokens))


def main(base: str, tokens: str, way: str, rows: int) -> None:
    """Train once over the data."""
    held = np.load(tokens)
    names = [str(name) for name in held["names"]]
    spans = [slice(int(a), int(b)) for a, b in zip(held["offsets"], held["offsets"][1:], strict=False)]
    learnt = held["kinds"] != names.index("context")
    data = [
        {"input_ids": held["tokens"][span].astype(np.int64), "labels": np.where(learnt[span], held["tokens"][span], -100)}
        for span in spans
    ]
    clock = Clock()

    def collated(batch: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in batch)
        clock.tokens += sum(len(row["input_ids"]) for row in batch)
        fills = (("input_ids", 0), ("labels", -100))
        made = {
            key: np.stack([np.pad(row[key], (0, width - len(row[key])), constant_values=fill) for row in batch])
            for key, fill in fills
        }
        mask = np.stack([np.arange(width) < len(row["input_ids"]) for row in batch])
        return {key: torch.from_numpy(one.astype(np.int64)) for key, one in (made | {"attention_mask": mask}).items()}

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, per_device_train_batch_size=rows, gradient_accumulation_steps=ROWS_OF_AN_UPDATE // rows, num_train_epochs=1,
            learning_rate=2e-4, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(), bf16=torch.cuda.is_available(), remove_unused_columns=False,
            train_sampling_strategy="group_by_length" if way == "grouped" else "random",
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=data, data_collator=collated, callbacks=[clock]).train()
    (began, before), (ended, after) = clock.marks[1], clock.marks[-1]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated() >> 20
    print(json.dumps({"tokens_per_second": (after - before) / (ended - began), "memory_mib": int(memory), "tokens": after}))


if __name__ == "__main__":
    Path(sys.argv[2]).stat()
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
