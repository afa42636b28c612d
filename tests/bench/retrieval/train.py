"""Train the maps of services/retrieval/tuned.py: python -m tests.bench.retrieval.train

One matrix for requests and cards and a bias for each, learned so that a request is nearest to its own tool among all of its
catalogue (softmax over cosines, InfoNCE, arXiv 1807.03748), kept small by what its squares cost. The same seed and vectors
give the same file. The constants were chosen on the part `dev`, which the last training learns from too.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.retrieval.embedder import Embedder
from services.retrieval.tuned import MAPS, moved
from services.retrieval.words import card_text
from tests.bench.retrieval import datasets, places
from tests.bench.retrieval.datasets import Catalogue, Part
from tool_adapters.aliyun import metadata

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SEED, STEPS, BATCH, RATE, COST, SCALE = 4, 300, 128, 3e-4, 0.01, 20.0
DISTRACTORS = 1500
"""Cards beside the batch's own that one step tells the requests from."""

SHARES = {"metatool": 0.4, "hammerbench_zh": 0.25, "hammerbench_en": 0.25, "seal": 0.1}
BETAS, TINY = (0.9, 0.999), 1e-8


@dataclass
class Lesson:
    """A catalogue as vectors. gold: rows of the cards a request takes; open: rows that may be learned from."""

    name: str
    cards: Floats
    requests: Floats
    gold: list[Ints]
    parts: list[Part]
    open: Ints

    def rows(self, parts: Sequence[Part]) -> Ints:
        """The requests of these parts."""
        return np.flatnonzero(np.isin(self.parts, parts))

    def known(self, parts: Sequence[Part]) -> Ints:
        """The cards that training on these parts may see: dev's are strange to it unless it learns from dev."""
        strange = [] if "dev" in parts else [self.gold[row] for row in self.rows(["dev"])]
        return self.open[~np.isin(self.open, np.concatenate(strange))] if strange else self.open


@dataclass
class Maps:
    """What is learned: see services.retrieval.tuned.moved."""

    matrix: Floats
    query_bias: Floats
    passage_bias: Floats

    def all(self) -> tuple[Floats, Floats, Floats]:
        return self.matrix, self.query_bias, self.passage_bias


Tell: TypeAlias = Callable[[int, Maps], None]


def train(lessons: Sequence[Lesson], parts: Sequence[Part], *, steps: int = STEPS, tell: Tell | None = None) -> Maps:
    """The maps after so many steps, the rate rising at first and falling then."""
    draw = np.random.default_rng(SEED)
    size = lessons[0].cards.shape[1]
    maps = Maps(*(np.zeros(shape, np.float32) for shape in ((size, size), (size,), (size,))))
    learners = [Adam(each) for each in maps.all()]
    shares = np.array([SHARES[lesson.name] for lesson in lessons])
    for step in range(1, steps + 1):
        lesson = lessons[draw.choice(len(lessons), p=shares / shares.sum())]
        slopes = _slopes(maps, *_batch(lesson, parts, draw))
        rate = RATE * min(step / 50, 1.0) * max(0.02, 1 - step / steps)
        for learner, slope in zip(learners, slopes, strict=True):
            learner.move(slope + 2 * COST * learner.values, rate)
        if tell:
            tell(step, maps)
    return maps


class Adam:
    """Moves values down a slope, in place; arXiv 1412.6980."""

    def __init__(self, values: Floats) -> None:
        self.values = values
        self._first, self._second, self._steps = np.zeros_like(values), np.zeros_like(values), 0

    def move(self, slope: Floats, rate: float) -> None:
        """One step of this rate."""
        self._steps += 1
        self._first += (1 - BETAS[0]) * (slope - self._first)
        self._second += (1 - BETAS[1]) * (slope**2 - self._second)
        first = self._first / (1 - BETAS[0] ** self._steps)
        second = self._second / (1 - BETAS[1] ** self._steps)
        self.values -= rate * first / (np.sqrt(second) + TINY)


def _batch(lesson: Lesson, parts: Sequence[Part], draw: np.random.Generator) -> tuple[Floats, Floats, Ints, Bools]:
    """Requests, cards, the column of each request's tool, and which columns are other tools that it takes as well."""
    rows = lesson.rows(parts)
    chosen = draw.choice(rows, min(BATCH, len(rows)), replace=False)
    meant = np.array([draw.choice(lesson.gold[row]) for row in chosen])
    known = lesson.known(parts)
    others = draw.choice(known, min(DISTRACTORS, len(known)), replace=False)
    columns = np.unique(np.concatenate([meant, others]))
    also = np.array([np.isin(columns, lesson.gold[row]) for row in chosen])
    also[np.arange(len(chosen)), np.searchsorted(columns, meant)] = False
    return lesson.requests[chosen], lesson.cards[columns], np.searchsorted(columns, meant), also


def _slopes(maps: Maps, requests: Floats, cards: Floats, meant: Ints, also: Bools) -> tuple[Floats, Floats, Floats]:
    """Derivatives of the mean cross-entropy by the matrix and the two biases."""
    asked, asked_length = _moved(requests, maps.matrix, maps.query_bias)
    offered, offered_length = _moved(cards, maps.matrix, maps.passage_bias)
    logits = np.where(also, -1e9, SCALE * asked @ offered.T)
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    likely[np.arange(len(meant)), meant] -= 1
    slope = (SCALE / len(meant) * likely).astype(np.float32)
    by_asked = _through_length(slope @ offered, asked, asked_length)
    by_offered = _through_length(slope.T @ asked, offered, offered_length)
    return requests.T @ by_asked + cards.T @ by_offered, by_asked.sum(axis=0), by_offered.sum(axis=0)


def _moved(vectors: Floats, matrix: Floats, bias: Floats) -> tuple[Floats, Floats]:
    sums = vectors + vectors @ matrix + bias
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    return sums / length, length


def _through_length(slope: Floats, unit: Floats, length: Floats) -> Floats:
    """The derivative by a vector, of something that is known by the vector's direction."""
    by_vector: Floats = (slope - (slope * unit).sum(axis=1, keepdims=True) * unit) / length
    return by_vector


def recall(lesson: Lesson, maps: Maps, part: Part, k: int = 3) -> float:
    """The share of the tools taken that are among the k nearest, mean over the requests of the part."""
    rows = lesson.rows([part])
    asked = moved(lesson.requests[rows], maps.matrix, maps.query_bias)
    nearest = np.argsort(-asked @ moved(lesson.cards, maps.matrix, maps.passage_bias).T, axis=1)[:, :k]
    return float(np.mean([np.isin(lesson.gold[row], found).mean() for row, found in zip(rows, nearest, strict=True)]))


async def _lessons(catalogues: Sequence[Catalogue]) -> list[Lesson]:
    embedding = await places.embedder()
    return [await _lesson(each, embedding) for each in catalogues]


async def _lesson(catalogue: Catalogue, embedding: Embedder) -> Lesson:
    """Its vectors as e5 has them; those of cards are kept, see places.passages."""
    cards = [card for card in catalogue.cards if card.lane != metadata.LANE or _is_drawn(card.name)]
    at = {card.name: row for row, card in enumerate(cards)}
    return Lesson(
        name=catalogue.name,
        cards=await places.passages(embedding, [card_text(card) for card in cards]),
        requests=np.asarray(await embedding.embed([request.text for request in catalogue.requests], "query"), np.float32),
        gold=[np.array([at[name] for name in request.gold]) for request in catalogue.requests],
        parts=[request.part for request in catalogue.requests],
        open=np.array([row for name, row in at.items() if name not in catalogue.closed]),
    )


def _is_drawn(name: str) -> bool:
    """One in ten of the cloud's cards is enough to tell apps from, and leaves nine that are new when it is measured."""
    return hashlib.sha256(name.encode()).digest()[0] % 10 == 0


def save(maps: Maps, file: Path) -> None:
    """The maps in half precision. np.savez would write the time of day into the file."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, values in zip(("matrix", "query_bias", "passage_bias"), maps.all(), strict=True):
            raw = io.BytesIO()
            np.save(raw, values.astype(np.float16), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), raw.getvalue())


def main() -> None:
    """Choose nothing, learn from train and dev, write the maps, and tell what they give on each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MAPS)
    parser.add_argument("--try", dest="tried", action="store_true", help="learn without dev, write nothing, tell dev's recall")
    parser.add_argument("--steps", type=int, default=STEPS)
    asked = parser.parse_args()
    catalogues = (datasets.metatool(), datasets.hammerbench("zh"), datasets.hammerbench("en"), datasets.seal_tools())
    lessons = asyncio.run(_lessons(catalogues))

    def tell(step: int, maps: Maps) -> None:
        if step % 50 == 0:
            print(step, {lesson.name: round(recall(lesson, maps, "dev"), 3) for lesson in lessons}, flush=True)

    parts: tuple[Part, ...] = ("train",) if asked.tried else ("train", "dev")
    maps = train(lessons, parts, steps=asked.steps, tell=tell if asked.tried else None)
    if not asked.tried:
        save(maps, asked.out)
        print(asked.out, hashlib.sha256(asked.out.read_bytes()).hexdigest())
    told: tuple[Part, ...] = ("dev",) if asked.tried else ("held", "unseen")
    print(json.dumps({f"{each.name}_{part}_dense_r3": round(recall(each, maps, part), 4) for each in lessons for part in told}))


if __name__ == "__main__":
    main()
