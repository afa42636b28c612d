"""Weights in a folder of Hugging Face's form: config.json, and model.safetensors or its shards with their index."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.llm.weights.rotary import Rotary, UnknownScaling, scaled
from services.llm.weights.shape import FAMILIES, Array, Shape, UnsupportedModel

CONFIG, WHOLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"

_TYPES: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")
_PARTS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
_OTHERS = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}  # fmt: skip


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies: its file's bytes, its type there, and its dimensions."""

    data: NDArray[np.uint8]
    kind: str
    dims: tuple[int, ...]


class SafetensorsFolder:
    """The tensors and the config of one folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._config = self._json(CONFIG)
        family = self._config.get("model_type")
        if family not in FAMILIES:
            raise UnsupportedModel(path, f"its model_type is {family}, not one of {', '.join(FAMILIES)}")
        if "quantization_config" in self._config:
            raise UnsupportedModel(path, "its weights are quantised in a way of their own (quantization_config)")
        self._tensors: dict[str, _Stored] = {}
        for file in self._files():
            self._map(file)
        tied = self._config.get("tie_word_embeddings")
        if tied:
            self._tensors.pop("output.weight", None)
        elif tied is False and "output.weight" not in self._tensors:
            raise UnsupportedModel(path, "it has no lm_head.weight, though it says that its output is not its embedding")

    def field(self, key: str) -> object:
        """Nothing: metadata under such keys are GGUF's."""
        del key
        return None

    def dimensions(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's [out, in]."""
        return {name: stored.dims for name, stored in self._tensors.items()}

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Some rows of a tensor, widened to float32."""
        stored = self._tensors[name]
        values = stored.data.view(_TYPES[stored.kind]).reshape(stored.dims)[start:stop]
        if stored.kind == "BF16":  # the upper half of a float32
            return (values.astype(np.uint32) << 16).view(np.float32)
        return np.ascontiguousarray(values, np.float32)

    def shape(self) -> Shape:
        """The shape that config.json tells."""
        self._refuse_what_is_not_computed()
        hidden, heads = self._integer("hidden_size"), self._integer("num_attention_heads")
        return Shape(
            family=str(self._config["model_type"]),
            layers=self._integer("num_hidden_layers"),
            hidden=hidden,
            heads=heads,
            kv_heads=self._integer("num_key_value_heads", heads),
            head_dim=self._integer("head_dim", hidden // max(heads, 1)),
            feed_forward=self._integer("intermediate_size"),
            vocabulary=self._integer("vocab_size"),
            context=self._integer("max_position_embeddings"),
            norm_epsilon=self._real(self._config, "rms_norm_eps"),
            rope_base=self._real(self._rope() if "rope_theta" in self._rope() else self._config, "rope_theta", 10_000.0),
            interleaved_rope=False,
        )

    def rotary(self, shape: Shape) -> Rotary:
        """The rotary positions that config.json tells."""
        try:
            return scaled(shape.rope_base, shape.head_dim, self._rope(), shape.context)
        except UnknownScaling as error:
            raise UnsupportedModel(self._path, str(error)) from error

    def _refuse_what_is_not_computed(self) -> None:
        config = self._config
        if config.get("hidden_act", "silu") != "silu":
            raise UnsupportedModel(self._path, f"its activation is {config['hidden_act']} instead of silu")
        if self._real(self._rope(), "partial_rotary_factor", self._real(config, "partial_rotary_factor", 1.0)) != 1:
            raise UnsupportedModel(self._path, "its rotary positions turn only a part of each head")
        window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
        kinds = config.get("layer_types")
        slides = isinstance(kinds, list) and any(kind != "full_attention" for kind in kinds)
        if slides or (window is not None and self._integer("sliding_window") < self._integer("max_position_embeddings")):
            raise UnsupportedModel(self._path, "its attention slides over a window")

    def _rope(self) -> Mapping[str, object]:
        """The scaling: `rope_scaling`, or since transformers 5 `rope_parameters`."""
        found = self._config.get("rope_parameters") or self._config.get("rope_scaling") or {}
        if not isinstance(found, dict):
            raise UnsupportedModel(self._path, f"the rope_scaling of its {CONFIG} is no object")
        return found

    def _files(self) -> list[Path]:
        if not (self._path / INDEX).exists():
            return [self._path / WHOLE]
        places = self._json(INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise UnsupportedModel(self._path, f"its {INDEX} has no weight_map")
        names = sorted(set(places.values()))
        if any(Path(name).name != name for name in names):
            raise UnsupportedModel(self._path, f"its {INDEX} names files outside of the folder")
        return [self._path / name for name in names]

    def _map(self, file: Path) -> None:
        """Take in the tensors of one file; the package checks the header, which says where each one's bytes are."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="numpy"):
                mapped = np.memmap(file, np.uint8, mode="r")
            length = int.from_bytes(mapped[:8].tobytes(), "little")
            header = json.loads(mapped[8 : 8 + length].tobytes())
        except (SafetensorError, OSError, ValueError) as error:
            raise UnsupportedModel(self._path, f"its {file.name} cannot be read, or is cut short: {error}") from error
        for name, entry in header.items():
            if name == "__metadata__" or name.endswith("rotary_emb.inv_freq"):
                continue
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            stored = _Stored(mapped[begin:end], entry["dtype"], tuple(entry["shape"]))
            if stored.kind not in _TYPES:
                raise UnsupportedModel(self._path, f"its tensor {name} is of the type {stored.kind}")
            self._tensors[_gguf_name(name)] = stored

    def _json(self, name: str) -> dict[str, object]:
        try:
            value = json.loads((self._path / name).read_text())
        except (OSError, ValueError) as error:
            raise UnsupportedModel(self._path, f"its {name} cannot be read: {error}") from error
        if not isinstance(value, dict):
            raise UnsupportedModel(self._path, f"its {name} is no object")
        return value

    def _integer(self, key: str, default: float | None = None) -> int:
        return int(self._real(self._config, key, default))

    def _real(self, values: Mapping[str, object], key: str, default: float | None = None) -> float:
        value = values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnsupportedModel(self._path, f"its {CONFIG} lacks a number {key}")
        return float(value)


def _gguf_name(name: str) -> str:
    """A tensor's GGUF name; names that are not known stay, to be refused by name."""
    layer = _LAYER.fullmatch(name)
    if layer and layer[2] in _PARTS:
        return f"blk.{layer[1]}.{_PARTS[layer[2]]}.{layer[3]}"
    return _OTHERS.get(name, name)


def hugging_face_name(name: str) -> str:
    """A tensor's name in a Hugging Face folder, from its GGUF name; KeyError for one that has none."""
    whole = {gguf: theirs for theirs, gguf in _OTHERS.items()}
    if not name.startswith("blk."):
        return whole[name]
    _, layer, part, kind = name.split(".")
    parts = {gguf: theirs for theirs, gguf in _PARTS.items()}
    return f"model.layers.{layer}.{parts[part]}.{kind}"
