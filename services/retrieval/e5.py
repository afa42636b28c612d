"""multilingual-e5-small on ONNX Runtime: 384 dimensions, Chinese and English, built by e5_build.

Mean pooling, unit length and the prefixes "query: " and "passage: " are those of the model card (arXiv 2402.05672).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from schemas.errors import MilepostError
from services.retrieval.e5_build import GRAPH, TOKENIZER
from services.retrieval.embedder import E5_SMALL, Kind

if TYPE_CHECKING:
    import onnxruntime
    import sentencepiece

MAX_TOKENS = 512
BATCH_TOKENS = 1024


class EmbedderUnavailable(MilepostError):
    """The embedder's files are missing or cannot be loaded."""


class E5Embedder:
    """Embeds in batches of like length; a text is read up to 512 tokens, what follows is not seen.

    One thread runs one batch of at most `BATCH_TOKENS` at a time, so that a query waits for one batch of a long
    import only.
    cache: how many vectors are kept by the hash of their text.
    """

    name, dimensions, fits = E5_SMALL.name, E5_SMALL.dimensions, E5_SMALL.fits

    def __init__(self, folder: Path, *, threads: int = 2, cache: int = 4096) -> None:
        self._session = _session(folder / GRAPH, threads)
        self._tokenizer = _tokenizer(folder / TOKENIZER)
        self._pad = self._tokenizer.pad_id()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="embedder")
        self._cache: OrderedDict[bytes, list[float]] = OrderedDict()
        self._cache_size = cache

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        keys = [hashlib.sha256(f"{kind}: {text}".encode()).digest() for text in texts]
        found = {key: self._cache[key] for key in keys if key in self._cache}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(self._worker, self._tokenize, list(missing.values()), kind)
        order = sorted(zip(missing, tokens, strict=True), key=lambda pair: len(pair[1]))
        for batch in _batches(order):
            vectors = await loop.run_in_executor(self._worker, self._run, [ids for _, ids in batch])
            found.update(zip((key for key, _ in batch), vectors, strict=True))
        self._remember(found)
        return [found[key] for key in keys]

    async def counter(self) -> Callable[[str], int]:
        return self.count

    def count(self, text: str) -> int:
        """How many tokens the text has, without the prefix and the two marks around it."""
        return len(self._tokenizer.encode(text))

    def _tokenize(self, texts: list[str], kind: Kind) -> list[list[int]]:
        begin, end = self._tokenizer.bos_id(), self._tokenizer.eos_id()
        encoded: list[list[int]] = self._tokenizer.encode([f"{kind}: {text}" for text in texts], num_threads=1)
        return [[begin, *ids[: MAX_TOKENS - 2], end] for ids in encoded]

    def _run(self, batch: list[list[int]]) -> list[list[float]]:
        ids = np.full((len(batch), max(map(len, batch))), self._pad, dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=np.int32)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        (vectors,) = self._session.run(["vectors"], {"input_ids": ids, "attention_mask": mask})
        return [[float(part) for part in vector] for vector in vectors]

    def _remember(self, vectors: dict[bytes, list[float]]) -> None:
        for key, vector in vectors.items():
            self._cache[key] = vector
            self._cache.move_to_end(key)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)


def _batches(order: Sequence[tuple[bytes, list[int]]]) -> Iterator[list[tuple[bytes, list[int]]]]:
    """Runs of the length-sorted texts whose padded size stays within the token budget."""
    batch: list[tuple[bytes, list[int]]] = []
    for key, ids in order:
        if batch and len(ids) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append((key, ids))
    if batch:
        yield batch


def _session(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen types without a common parent
        raise EmbedderUnavailable(
            "The embedding model cannot be loaded.", why=str(error)[:300], hint="milepost models pull"
        ) from error


def _tokenizer(path: Path) -> sentencepiece.SentencePieceProcessor:
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise EmbedderUnavailable(
            "The tokenizer of the embedding model cannot be loaded.", why=str(error)[:300], hint="milepost models pull"
        ) from error
