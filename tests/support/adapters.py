"""LoRA adapters made by numpy, as peft lays them down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.support.tiny_model import Tiny

QUERY = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"
RANK, ALPHA = 4, 8


def write_adapter(
    folder: Path, tiny: Tiny, *, seed: int = 1, modules: tuple[str, ...] = (QUERY, DOWN), **config: object
) -> Path:
    """An adapter of some modules; config: other values of adapter_config.json."""
    random = np.random.default_rng(seed)
    tensors = {}
    for module in modules:
        out, into = tiny.hub_tensors()[f"{module}.weight"].shape
        tensors[f"base_model.model.{module}.lora_A.weight"] = random.standard_normal((RANK, into)).astype(np.float32)
        tensors[f"base_model.model.{module}.lora_B.weight"] = random.standard_normal((out, RANK)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    told: dict[str, object] = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "target_modules": list(modules),
        "bias": "none", "fan_in_fan_out": False, "use_dora": False, "use_rslora": False, "modules_to_save": None,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(told | config))
    return folder
