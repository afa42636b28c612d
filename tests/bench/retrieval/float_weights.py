"""multilingual-e5-small as other libraries want it: float tensors by the names of a BERT, and the vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.retrieval.e5_build import SOURCE, Weights, read_weights

PARTS = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "ao": "attention.output.dense",
    "fi": "intermediate.dense", "fo": "output.dense",
}  # fmt: skip
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}

Half = npt.NDArray[np.float16]


def write(weights_folder: Path, out: Path) -> None:
    """weights.npz and vocabulary.json into `out`; the 4-bit weights exactly, but for float16's rounding."""
    weights = read_weights(weights_folder / SOURCE)
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "weights.npz", **_tensors(weights))  # type: ignore[arg-type]  # numpy takes the names for options
    known = weights.vocabulary
    said = {
        "hidden": weights.hidden, "layers": weights.layers, "heads": weights.heads, "feed_forward": weights.feed_forward,
        "epsilon": weights.epsilon, "pieces": known.pieces, "scores": known.scores,
        "bos": known.bos, "eos": known.eos, "pad": known.pad, "unk": known.unk,
    }  # fmt: skip
    (out / "vocabulary.json").write_text(json.dumps(said))


def _tensors(weights: Weights) -> dict[str, Half]:
    wide = weights.hidden
    found = {
        "embeddings.word_embeddings.weight": _matrix(weights, "emb.word", wide),
        "embeddings.position_embeddings.weight": weights.floats("emb.pos").reshape(-1, wide).astype(np.float16),
        "embeddings.token_type_embeddings.weight": weights.floats("emb.type").reshape(-1, wide).astype(np.float16),
        **_norm(weights, "emb.ln", "embeddings.LayerNorm"),
    }
    for layer in range(weights.layers):
        here = f"encoder.layer.{layer}"
        for short, name in PARTS.items():
            bias = weights.floats(f"l{layer}.{short}.b")
            columns = weights.directory[f"l{layer}.{short}.w"].values // len(bias)
            found[f"{here}.{name}.weight"] = _matrix(weights, f"l{layer}.{short}.w", columns)
            found[f"{here}.{name}.bias"] = bias.astype(np.float16)
        for short, name in NORMS.items():
            found |= _norm(weights, f"l{layer}.{short}", f"{here}.{name}")
    return found


def _matrix(weights: Weights, name: str, columns: int) -> Half:
    nibbles, scales = weights.blocks(name, columns)
    return ((nibbles.astype(np.float32) - 8) * np.repeat(scales, columns // scales.shape[1], axis=1)).astype(np.float16)


def _norm(weights: Weights, short: str, name: str) -> dict[str, Half]:
    return {
        f"{name}.weight": weights.floats(f"{short}.w").astype(np.float16),
        f"{name}.bias": weights.floats(f"{short}.b").astype(np.float16),
    }
