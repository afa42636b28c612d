"""LoRA adapters in peft's form: adapter_config.json beside adapter_model.safetensors.

Form: https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infra.models.adapters import CONFIG, TENSORS
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from services.llm.weights import Array

_NOT_MERGED = ("use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication")
_KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


class BadAdapter(MilepostError):
    """A folder is no adapter, or none that can be merged."""

    def __init__(self, folder: Path, why: str, hint: str = "") -> None:
        super().__init__(
            f"{folder} holds no adapter that can be merged.",
            why=why,
            hint=hint or f"name a folder with {CONFIG} and {TENSORS}, such as milepost train writes",
        )
        self.folder = folder


class WrongBase(MilepostError):
    """An adapter was trained upon another model than the one it is to be merged with."""

    def __init__(self, folder: Path, base: str, why: str, hint: str = "") -> None:
        hint = hint or "name the model it was trained upon: --model NAME"
        super().__init__(f"The adapter {folder.name} does not belong to {base}.", why=why, hint=hint)


@dataclass(frozen=True)
class Adapter:
    """The low-rank changes of an adapter: for each module (its Hugging Face name) A [rank, in] and B [out, rank], float32."""

    folder: Path
    rank: int
    scale: float
    pairs: dict[str, tuple[Array, Array]]

    def delta(self, module: str) -> Array:
        """What is added to a module's weight [out, in]."""
        down, up = self.pairs[module]
        return np.asarray((up @ down) * np.float32(self.scale), np.float32)


def read(folder: Path) -> Adapter:
    """The adapter in a folder. Raises BadAdapter for what is broken, or of a kind that W + s B A does not tell."""
    config = _config(folder)
    rank, alpha = _number(folder, config, "r"), _number(folder, config, "lora_alpha")
    pairs: dict[str, dict[str, Array]] = {}
    for name, values in _tensors(folder).items():
        found = _KEY.fullmatch(name)
        if not found:
            raise BadAdapter(folder, f"its tensor {name} is no LoRA matrix of a linear layer")
        if not np.isfinite(values).all():
            raise BadAdapter(folder, f"its tensor {name} holds what is no number", "train it again with a lower --lr")
        pairs.setdefault(found[1], {})[found[2]] = values
    if not pairs:
        raise BadAdapter(folder, f"its {TENSORS} holds no tensor")
    made = {module: _pair(folder, module, both, int(rank)) for module, both in sorted(pairs.items())}
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return Adapter(folder, int(rank), scale, made)


def _pair(folder: Path, module: str, both: dict[str, Array], rank: int) -> tuple[Array, Array]:
    if set(both) != {"A", "B"}:
        raise BadAdapter(folder, f"{module} has only one of lora_A and lora_B")
    down, up = both["A"], both["B"]
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != rank or up.shape[1] != rank:
        raise BadAdapter(folder, f"{module} has lora_A {down.shape} and lora_B {up.shape}, which are not of rank {rank}")
    return down, up


def _config(folder: Path) -> dict[str, object]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadAdapter(folder, f"its {CONFIG} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else config
        raise BadAdapter(folder, f"its peft_type is {kind}, not LORA")
    odd = [key for key in _NOT_MERGED if config.get(key)]
    odd += ["lora_bias"] if config.get("lora_bias") or config.get("bias", "none") != "none" else []
    if odd:
        raise BadAdapter(folder, f"it uses {', '.join(odd)}, which is not merged here", "merge it with peft's merge_and_unload")
    return config


def _number(folder: Path, config: dict[str, object], key: str) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise BadAdapter(folder, f"its {CONFIG} has {key} {value!r}")
    return value


def _tensors(folder: Path) -> dict[str, Array]:
    import ml_dtypes  # noqa: F401  # safetensors' numpy reads bfloat16 by it
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name: np.asarray(values, np.float32) for name, values in load_file(folder / TENSORS).items()}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise BadAdapter(folder, f"its {TENSORS} cannot be read, or is cut short: {error}") from error


def narrow(source: Path, target: Path) -> None:
    """Write an adapter's tensors in bfloat16, half as large as in float32. Raises BadAdapter."""
    from infra.training.hugging_face import write_tensors

    tensors = _tensors(source.parent)
    listed = [(name, values.shape) for name, values in sorted(tensors.items())]
    write_tensors(target, listed, (tensors[name] for name, _ in listed), kind="bf16")
