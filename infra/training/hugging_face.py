"""Writing a folder of Hugging Face's form: config.json, model.safetensors and the tokenizer, one tensor in memory at a time.

Format of the file: https://huggingface.co/docs/safetensors#format; of the config: transformers' of each family.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import ml_dtypes
import numpy as np

from services.llm.about import TOKENIZER, about_gguf
from services.llm.weights import Array, Shape, UnsupportedModel, Weights
from services.llm.weights.rotary import plain
from services.llm.weights.safetensors import CONFIG, WHOLE, hugging_face_name

Kind: TypeAlias = Literal["fp32", "bf16"]
KINDS: dict[Kind, tuple[str, np.dtype[np.generic]]] = {
    "fp32": ("F32", np.dtype(np.float32)), "bf16": ("BF16", np.dtype(ml_dtypes.bfloat16)),
}  # fmt: skip
DTYPES: dict[Kind, str] = {"fp32": "float32", "bf16": "bfloat16"}
CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")
FORWARD = ("ffn_gate", "ffn_up", "ffn_down")
BESIDE = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "special_tokens_map.json",
)  # fmt: skip

# What becomes of a tensor, by its Hugging Face name.
Change: TypeAlias = Callable[[str, Array], Array]


def unchanged(_: str, values: Array) -> Array:
    """The tensor as it is."""
    return values


@dataclass(frozen=True)
class Biases:
    """Which projections have a bias, as far as a family's config can say it: all of a group or none."""

    parts: tuple[str, ...]
    config: Mapping[str, bool]


def biases(weights: Weights) -> Biases:
    """The biases that transformers is to expect. Raises UnsupportedModel for those that its family cannot have."""
    there = {
        part for part in (*ATTENTION, *FORWARD) if any(f"blk.{i}.{part}.bias" in weights for i in range(weights.shape.layers))
    }
    if weights.shape.family == "qwen2":
        made = Biases(ATTENTION[:3], {})
    elif weights.shape.family == "mistral":
        made = Biases((), {})
    else:
        attention, forward = bool(there & set(ATTENTION)), bool(there & set(FORWARD))
        parts = (*(ATTENTION if attention else ()), *(FORWARD if forward else ()))
        made = Biases(parts, {"attention_bias": attention, "mlp_bias": forward})
    if odd := there - set(made.parts):
        why = f"its {', '.join(sorted(odd))} have biases, which transformers' {CLASSES[weights.shape.family]} has not"
        raise UnsupportedModel(weights.path, why)
    return made


def config_of(weights: Weights, kind: Kind) -> dict[str, object]:
    """The config.json of a GGUF file. Raises UnsupportedModel for scaled rotary positions, which GGUF tells only in part."""
    shape = weights.shape
    unscaled = plain(shape.rope_base, shape.head_dim)
    if weights.rotary.magnitude != 1 or not np.allclose(weights.rotary.frequencies, unscaled, rtol=1e-6):
        raise UnsupportedModel(
            weights.path,
            "its rotary positions are scaled, and a GGUF file does not tell all of how: use its safetensors folder",
        )
    end = weights.field("tokenizer.ggml.eos_token_id")
    return {
        "architectures": [CLASSES[shape.family]], "model_type": shape.family, "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim, "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context, "rms_norm_eps": shape.norm_epsilon, "hidden_act": "silu",
        "rope_theta": shape.rope_base, "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "tie_word_embeddings": "output.weight" not in weights, "use_sliding_window": False,
        "dtype": DTYPES[kind],
        "torch_dtype": DTYPES[kind], "eos_token_id": end if isinstance(end, int) else None, **biases(weights).config,
    }  # fmt: skip


def tensors_of(weights: Weights) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The GGUF name and dimensions of every tensor that transformers is to find, in a fixed order."""
    shape = weights.shape
    hidden, query, key, forward = shape.hidden, shape.query_width, shape.key_width, shape.feed_forward
    out = {"attn_q": query, "attn_k": key, "attn_v": key, "attn_output": hidden, "ffn_gate": forward, "ffn_up": forward}
    out["ffn_down"] = hidden
    into = {"attn_output": query, "ffn_down": forward}
    biased = set(biases(weights).parts)
    yield "token_embd.weight", (shape.vocabulary, hidden)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", (hidden,)
        yield f"{block}.ffn_norm.weight", (hidden,)
        for part in (*ATTENTION, *FORWARD):
            yield f"{block}.{part}.weight", (out[part], into.get(part, hidden))
            if part in biased:
                yield f"{block}.{part}.bias", (out[part],)
        if f"{block}.attn_q_norm.weight" in weights:
            yield f"{block}.attn_q_norm.weight", (shape.head_dim,)
            yield f"{block}.attn_k_norm.weight", (shape.head_dim,)
    yield "output_norm.weight", (hidden,)
    if "output.weight" in weights:
        yield "output.weight", (shape.vocabulary, hidden)


def tensor(weights: Weights, name: str) -> Array:
    """A tensor as transformers has it: rotary pairs half a head apart; zeros for a bias that its group has and it has not."""
    if name.endswith(".bias") and name not in weights:
        return np.zeros(len(weights[name.replace(".bias", ".weight")]), np.float32)
    found, shape = weights[name], weights.shape
    turns = ".attn_q." in name or ".attn_k." in name
    return apart(found, shape) if turns and shape.interleaved_rope else found


def apart(rows: Array, shape: Shape) -> Array:
    """Rows [heads * head_dim, ...] whose rotary pairs are neighbours, with the pairs half a head apart."""
    paired = rows.reshape(-1, shape.head_dim // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(rows.shape)


def write_tensors(path: Path, listed: Iterable[tuple[str, tuple[int, ...]]], made: Iterable[Array], *, kind: Kind) -> None:
    """A safetensors file of tensors in the order listed (name, dimensions), each asked for when it is written."""
    letter, dtype = KINDS[kind]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    listed, at = tuple(listed), 0
    for name, dims in listed:
        end = at + dtype.itemsize * int(np.prod(dims))
        header[name] = {"dtype": letter, "shape": list(dims), "data_offsets": [at, end]}
        at = end
    said = json.dumps(header).encode()
    said += b" " * (-len(said) % 8)
    with path.open("wb") as file:
        file.write(len(said).to_bytes(8, "little") + said)
        for (name, dims), values in zip(listed, made, strict=True):
            if values.shape != dims:
                raise ValueError(f"{name} has the dimensions {values.shape} instead of {dims}")
            file.write(np.ascontiguousarray(values.astype(dtype, copy=False)).tobytes())


def write_folder(source: Path, folder: Path, *, kind: Kind, change: Change = unchanged) -> None:
    """A GGUF file, or a Hugging Face folder again, into an empty folder, each tensor changed as it passes.

    Raises UnsupportedModel, OSError.
    """
    weights = Weights(source)
    names = tuple(tensors_of(weights))
    listed = [(hugging_face_name(name), dims) for name, dims in names]
    made = (change(theirs, tensor(weights, name)) for (name, _), (theirs, _) in zip(names, listed, strict=True))
    if source.is_dir():
        config = {
            **json.loads((source / CONFIG).read_text(encoding="utf-8")),
            "dtype": DTYPES[kind],
            "torch_dtype": DTYPES[kind],
        }
        for name in BESIDE:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    else:
        config = config_of(weights, kind)
        _write_tokenizer(weights, folder)
    write_tensors(folder / WHOLE, listed, made, kind=kind)
    write_json(folder / CONFIG, config)


def _write_tokenizer(weights: Weights, folder: Path) -> None:
    about = about_gguf(weights)
    about.tokenizer.save(str(folder / TOKENIZER), pretty=False)
    spoken = {"chat_template": about.template} if about.template else {}
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": weights.shape.context,
        "clean_up_tokenization_spaces": False, **about.tokens, **spoken,
    })  # fmt: skip


def write_json(path: Path, value: object) -> None:
    """A JSON file that people can read."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
