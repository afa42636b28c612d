"""The model that is trained: its base, what of it learns, and its weighted predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from services.training import attention
from services.training.batch import Arrays
from services.training.lora import fuse
from services.training.plan import Plan
from services.training.refusal import Refused

BESIDE_WEIGHTS = ("tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt", "chat_template*", "added_tokens.json")
"""Files of a base that belong to trained weights unchanged."""


class WeightedModel(torch.nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """A causal language model that makes logits only where a token has a weight: the head is most of a small model's work."""

    def __init__(self, causal: PreTrainedModel) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, batch: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
        """Negative log-likelihood of each target, float32, and whether it was the likeliest token; both (targets,)."""
        device = self.causal.device
        packed = {"segments": batch.segments} if batch.segments else {}
        rows, at, columns, targets = (
            torch.from_numpy(one).to(device, non_blocking=True) for one in (batch.rows, batch.at, batch.columns, batch.targets)
        )
        logits = self.causal(
            input_ids=torch.from_numpy(batch.tokens).to(device, non_blocking=True),
            position_ids=torch.from_numpy(batch.positions).to(device, non_blocking=True),
            use_cache=False,
            logits_to_keep=columns,
            **packed,
        ).logits
        wanted = (logits[0] if len(batch.tokens) == 1 else logits[rows, at]).float()
        with torch.no_grad():
            hits = wanted.argmax(-1) == targets
        return cross_entropy(wanted, targets, reduction="none"), hits


def precision(plan: Plan, device: torch.device) -> torch.dtype:
    """What is computed in: bfloat16 where a GPU has it, float32 on a CPU, where that is faster (docs/training-trainer.md)."""
    if plan.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if plan.precision == "bf16" else torch.float32


def load(plan: Plan, device: torch.device, tokens: int) -> PreTrainedModel | PeftModel:
    """The base on `device` with what learns. tokens: one more than the highest of the data. Raises Refused."""
    if plan.method == "qlora" and device.type != "cuda":
        raise Refused(
            "qlora needs a GPU",
            why="4-bit weights are multiplied by CUDA kernels",
            hint='set "method": "lora" on a machine without',
        )
    try:
        config = AutoConfig.from_pretrained(plan.base, local_files_only=True)
        causal = AutoModelForCausalLM.from_pretrained(plan.base, local_files_only=True, **_loading(plan, device))
    except ImportError as error:
        raise Refused("qlora needs bitsandbytes", why=str(error), hint="pip install bitsandbytes") from error
    except Exception as error:  # safetensors and transformers raise their own, and plain ones
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            raise
        raise Refused(
            f"{plan.base} is no model that can be trained",
            why=f"{type(error).__name__}: {error}",
            hint="give a folder with config.json and model.safetensors",
        ) from error
    vocabulary = config.get_text_config().vocab_size
    if tokens > vocabulary:
        raise Refused(
            "the token files are of another tokenizer",
            why=f"they hold token {tokens - 1}; {plan.base} knows {vocabulary}",
            hint="encode them again with this base's tokenizer",
        )
    if plan.method != "qlora":
        causal.to(device)
    causal.config.use_cache = False
    if plan.checkpointing:
        causal.gradient_checkpointing_enable({"use_reentrant": False})
    return causal if plan.method == "full" else _adapted(causal, plan)


def _loading(plan: Plan, device: torch.device) -> dict[str, object]:
    computed = precision(plan, device)
    options: dict[str, object] = {
        "dtype": torch.float32 if plan.method == "full" else computed,
        "attn_implementation": attention.NAME if plan.packing else "sdpa",
    }
    if plan.method == "qlora":
        options["device_map"] = {"": device}
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=computed
        )
    return options


def _adapted(causal: PreTrainedModel, plan: Plan) -> PeftModel:
    torch.manual_seed(plan.seed)
    causal.requires_grad_(False)
    lora = LoraConfig(
        r=plan.rank, lora_alpha=plan.alpha, lora_dropout=plan.dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(causal, lora)
    fuse(adapted)
    adapted.peft_config["default"].base_model_name_or_path = Path(plan.base).name  # a path would be this machine's
    return adapted


def causal_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The causal model itself: an adapter's layers are in it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def learning(model: PreTrainedModel | PeftModel) -> dict[str, torch.nn.Parameter]:
    """What learns, by name."""
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def write(model: PreTrainedModel | PeftModel, plan: Plan, folder: Path) -> None:
    """The adapter (as peft reads it) or the whole model with its base's tokenizer, into a new folder."""
    folder.mkdir(parents=True)
    if isinstance(model, PeftModel):
        held = get_peft_model_state_dict(model, save_embedding_layers=False)
        save_file({name: one.detach().cpu().contiguous() for name, one in held.items()}, folder / "adapter_model.safetensors")
        config = model.peft_config["default"].to_dict()
        plain = {name: sorted(one) if isinstance(one, set) else one for name, one in config.items()}
        text = json.dumps({**plain, "inference_mode": True}, indent=1, sort_keys=True, default=str)
        (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
        return
    model.save_pretrained(folder)
    for pattern in BESIDE_WEIGHTS:
        for file in Path(plan.base).glob(pattern):
            shutil.copy(file, folder / file.name)
