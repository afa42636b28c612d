"""What transformers and peft compute, in the training environment: `python oracle.py logits|tune|merge FOLDER ...`."""

from __future__ import annotations

import json
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)


def load(folder: str) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def logits(folder: str, out: str, *texts: str) -> dict[str, object]:
    """Tokens of texts, and the logits after each of them as numpy files."""
    import numpy as np

    model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    with torch.no_grad():
        found = {f"{at}": model(torch.tensor([each])).logits[0].numpy() for at, each in enumerate(ids)}
    np.savez(out, **found)
    return {"ids": ids}


def tune(folder: str, adapter: str, stable: str) -> dict[str, object]:
    """A LoRA adapter of random numbers, as peft saves it."""
    torch.manual_seed(0)
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False,
        use_rslora=stable == "stable",
    )  # fmt: skip
    tuned = get_peft_model(load(folder), config)
    for name, values in tuned.named_parameters():
        if "lora_" in name:
            values.data.normal_(0, 0.02)
    tuned.save_pretrained(adapter)
    return {}


def merge(folder: str, adapter: str, out: str) -> dict[str, object]:
    """What peft makes of a base and an adapter."""
    PeftModel.from_pretrained(load(folder), adapter).merge_and_unload().save_pretrained(out)
    return {}


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    print(json.dumps({"logits": logits, "tune": tune, "merge": merge}[command](*arguments)))
