"""A decoder small enough to be checked by hand: random weights in real files, and the same arithmetic in numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import gguf
import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from services.llm.tokenizer import BYTE_OF
from tests.support.reference_decoder import Array, ReferenceDecoder, llama3_divisors, slower, turns

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD = 2, 64, 4, 2, 16, 96
EPSILON, ROPE_BASE, CONTEXT = 1e-5, 10_000.0, 1024
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "l l", "he ll", "Ġ t")
TYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
PARTS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def tokens() -> list[str]:
    """All bytes, a few merges, then the special tokens."""
    return [*BYTE_OF, *("".join(merge.split()) for merge in MERGES), *SPECIAL]


VOCABULARY = len(tokens())


@dataclass(frozen=True)
class Tiny:
    """family: `llama`, `qwen2` (biases of q, k and v) or `qwen3` (norms of q and k); tied: the output table is the embedding.

    tensors: by GGUF name; q and k of `llama` lie as in GGUF, so that rotary pairs are neighbours.
    scaling: of the rotary positions, as config.json tells it.
    """

    family: str
    tied: bool
    tensors: dict[str, Array]
    head_dim: int = HEAD_DIM
    feed_forward: int = FEED_FORWARD
    scaling: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def random(
        cls, family: str, *, tied: bool, seed: int = 0, head_dim: int = HEAD_DIM, feed_forward: int = FEED_FORWARD,
        scaling: Mapping[str, object] | None = None,
    ) -> Tiny:  # fmt: skip
        """Weights of a scale at which every part of the arithmetic shows in the logits."""
        random = np.random.default_rng(seed)

        def normal(*dims: int) -> Array:
            return (random.standard_normal(dims) * 0.2).astype(np.float32)

        tensors = {"token_embd.weight": normal(VOCABULARY, HIDDEN), "output_norm.weight": 1 + normal(HIDDEN)}
        if not tied:
            tensors["output.weight"] = normal(VOCABULARY, HIDDEN)
        for layer in range(LAYERS):
            block = f"blk.{layer}"
            widths = {"q": HEADS * head_dim, "k": KV_HEADS * head_dim, "v": KV_HEADS * head_dim}
            for part, width in widths.items():
                tensors[f"{block}.attn_{part}.weight"] = normal(width, HIDDEN)
                if family == "qwen2":
                    tensors[f"{block}.attn_{part}.bias"] = normal(width)
                if family == "qwen3" and part != "v":
                    tensors[f"{block}.attn_{part}_norm.weight"] = 1 + normal(head_dim)
            tensors[f"{block}.attn_output.weight"] = normal(HIDDEN, HEADS * head_dim)
            tensors[f"{block}.ffn_gate.weight"] = normal(feed_forward, HIDDEN)
            tensors[f"{block}.ffn_up.weight"] = normal(feed_forward, HIDDEN)
            tensors[f"{block}.ffn_down.weight"] = normal(HIDDEN, feed_forward)
            tensors[f"{block}.attn_norm.weight"] = 1 + normal(HIDDEN)
            tensors[f"{block}.ffn_norm.weight"] = 1 + normal(HIDDEN)
        return cls(family, tied, tensors, head_dim, feed_forward, scaling or {})

    def write(
        self, path: Path, *, packed: Mapping[str, tuple[NDArray[np.uint8], gguf.GGMLQuantizationType]] | None = None,
        metadata: Mapping[str, int | str] | None = None,
    ) -> Path:  # fmt: skip
        """The model as a GGUF file, in float32 but for the packed tensors; metadata: more of the family's values."""
        writer = gguf.GGUFWriter(path, self.family)
        writer.add_block_count(LAYERS)
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(HIDDEN)
        writer.add_feed_forward_length(self.feed_forward)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(KV_HEADS)
        writer.add_key_length(self.head_dim)
        writer.add_layer_norm_rms_eps(EPSILON)
        writer.add_rope_freq_base(ROPE_BASE)
        for key, value in (metadata or {}).items():
            add = writer.add_string if isinstance(value, str) else writer.add_uint32
            add(f"{self.family}.{key}", value)  # type: ignore[arg-type]
        self._add_scaling(writer)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm" if self.family == "llama" else "qwen2")
        writer.add_token_list(tokens())
        writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens()])
        writer.add_token_merges(list(MERGES))
        for name, tensor in self.tensors.items():
            if packed and name in packed:
                data, kind = packed[name]
                writer.add_tensor(name, data, raw_dtype=kind)
            else:
                writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def write_folder(
        self, folder: Path, *, kind: str = "F32", shards: int = 1, config: Mapping[str, object] | None = None
    ) -> Path:
        """The model as Hugging Face keeps it; kind: F32, F16 or BF16; config: more of config.json, or other values."""
        folder.mkdir(parents=True, exist_ok=True)
        told: dict[str, object] = {
            "model_type": self.family, "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS, "head_dim": self.head_dim, "intermediate_size": self.feed_forward,
            "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "rms_norm_eps": EPSILON, "rope_theta": ROPE_BASE,
            "hidden_act": "silu", "tie_word_embeddings": self.tied,
        }  # fmt: skip
        if self.scaling:
            told["rope_scaling"] = dict(self.scaling)
        (folder / "config.json").write_text(json.dumps(told | dict(config or {})))
        tensors = list(self.hub_tensors().items())
        if shards == 1:
            write_safetensors(folder / "model.safetensors", dict(tensors), kind)
            return folder
        places: dict[str, str] = {}
        for shard in range(shards):
            name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
            write_safetensors(folder / name, dict(tensors[shard::shards]), kind)
            places |= {tensor: name for tensor, _ in tensors[shard::shards]}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
        return folder

    def hub_tensors(self) -> dict[str, Array]:
        """The tensors by Hugging Face's names, q and k of `llama` with rotary pairs half a head apart."""
        others = {
            "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
            "output.weight": "lm_head.weight",
        }  # fmt: skip
        found = {}
        for name, tensor in self.tensors.items():
            if name in others:
                found[others[name]] = tensor
                continue
            _, layer, part, kind = name.split(".")
            turned = self.family == "llama" and part in ("attn_q", "attn_k")
            found[f"model.layers.{layer}.{PARTS[part]}.{kind}"] = self._apart(tensor) if turned else tensor
        return found

    def _apart(self, tensor: Array) -> Array:
        """Rows of q or k whose rotary pairs are neighbours, with the pairs half a head apart."""
        heads = tensor.reshape(-1, self.head_dim // 2, 2, tensor.shape[-1])
        return np.ascontiguousarray(heads.swapaxes(1, 2).reshape(tensor.shape))

    def reference(self) -> ReferenceDecoder:
        """The model in plain arithmetic."""
        decoder = ReferenceDecoder(
            self.tensors, LAYERS, HEADS, KV_HEADS, self.head_dim, EPSILON, turns(ROPE_BASE, self.head_dim),
            interleaved=self.family == "llama",
        )  # fmt: skip
        match self.scaling.get("rope_type"):
            case "llama3":
                return slower(decoder, llama3_divisors(ROPE_BASE, self.head_dim, self.scaling))
            case "linear":
                return slower(decoder, cast("float", self.scaling["factor"]))
            case _:
                return decoder

    def logits(self, ids: list[int]) -> Array:
        """Logits [len(ids), vocabulary]."""
        return self.reference().logits(ids)

    def _add_scaling(self, writer: gguf.GGUFWriter) -> None:
        """As llama.cpp's converter tells it: llama3 by factors, the others by their kind."""
        match self.scaling.get("rope_type"):
            case None:
                return
            case "llama3":
                divisors = llama3_divisors(ROPE_BASE, self.head_dim, self.scaling)
                writer.add_tensor("rope_freqs.weight", divisors.astype(np.float32))
            case kind:
                writer.add_string(f"{self.family}.rope.scaling.type", str(kind))
                writer.add_float32(f"{self.family}.rope.scaling.factor", float(cast("float", self.scaling["factor"])))


def write_safetensors(path: Path, tensors: Mapping[str, Array], kind: str) -> None:
    """A file by the format's own rules: https://github.com/huggingface/safetensors#format."""
    header, bodies, offset = {}, [], 0
    for name, tensor in tensors.items():
        body = tensor.astype(TYPES[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [offset, offset + len(body)]}
        bodies.append(body)
        offset += len(body)
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(bodies))
