"""sentence-transformers' side, asked in lines of JSON: python sentence_transformers_peer.py FOLDER THREADS

A request is {"texts": [...], "kind": "query" or "passage"}; the answer how many seconds they took, and the vectors.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast


def model(folder: Path) -> SentenceTransformer:
    said = json.loads((folder / "vocabulary.json").read_text())
    with np.load(folder / "weights.npz") as stored:
        tensors = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored.files}
    config = BertConfig(
        vocab_size=len(tensors["embeddings.word_embeddings.weight"]),
        hidden_size=said["hidden"], num_hidden_layers=said["layers"],
        num_attention_heads=said["heads"], intermediate_size=said["feed_forward"], layer_norm_eps=said["epsilon"],
        max_position_embeddings=len(tensors["embeddings.position_embeddings.weight"]),
        type_vocab_size=len(tensors["embeddings.token_type_embeddings.weight"]), pad_token_id=said["pad"],
    )  # fmt: skip
    bert = BertModel(config, add_pooling_layer=False)
    bert.load_state_dict(tensors)
    with tempfile.TemporaryDirectory() as place:
        bert.save_pretrained(place)
        tokenizer(said).save_pretrained(place)
        words = Transformer(place, max_seq_length=512)
    return SentenceTransformer(modules=[words, Pooling(said["hidden"], "mean"), Normalize()], device="cpu")


def tokenizer(said: dict) -> PreTrainedTokenizerFast:  # type: ignore[type-arg]  # mypy does not run here
    made = Tokenizer(models.Unigram(list(zip(said["pieces"], said["scores"], strict=True)), said["unk"], False))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    begin, end, pad, unknown = (said["pieces"][said[name]] for name in ("bos", "eos", "pad", "unk"))
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, said["bos"]), (end, said["eos"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=begin, eos_token=end, pad_token=pad, unk_token=unknown, model_max_length=512
    )


def main() -> None:
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    embedder = model(folder)
    embedder.encode(["query: ready"])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        asked = json.loads(line)
        texts = [f"{asked['kind']}: {text}" for text in asked["texts"]]
        vectors = embedder.encode(texts, batch_size=32, show_progress_bar=False)
        print(json.dumps({"seconds": time.perf_counter() - began, "vectors": vectors.tolist()}), flush=True)


if __name__ == "__main__":
    main()
