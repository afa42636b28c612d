from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from services.llm.engine import END, Engine, Next
from services.llm.exported_decoder import ExportedDecoder, NotServable
from services.llm.interface import GRAPH_FILE
from services.llm.scores import Scores

VOCABULARY, HEADS, WIDTH, CAPACITY = 29, 2, 4, 48
HIDDEN = HEADS * WIDTH
IDS = [5, 7, 3, 20, 14, 9, 6, 28, 28, 12, 25]

# One layer of attention as optimum lays a graph out: keys and values joined to the past ones, places from position_ids.
GRAPH = """
<ir_version: 10, opset_import: ["" : 21]>
decoder (
  int64[batch, n] input_ids, int64[batch, total] attention_mask, int64[batch, n] position_ids,
  FLOAT[batch, HEADS, past, WIDTH] "past_key_values.0.key", FLOAT[batch, HEADS, past, WIDTH] "past_key_values.0.value"
) => (
  FLOAT[batch, n, VOCABULARY] logits,
  FLOAT[batch, HEADS, total, WIDTH] "present.0.key", FLOAT[batch, HEADS, total, WIDTH] "present.0.value"
) <
  int64[4] split = {0, 0, HEADS, WIDTH}, int64[3] join = {0, 0, HIDDEN}, int64[1] first = {1}, int64[1] second = {2},
  int64[1] heads = {1, 2}, float never = {-1e9}, float scale = {0.5}
> {
  word = Gather (words, input_ids)
  place = Gather (places, position_ids)
  hidden = Add (word, place)
  query_flat = MatMul (hidden, query_weight)
  key_flat = MatMul (hidden, key_weight)
  value_flat = MatMul (hidden, value_weight)
  query_split = Reshape (query_flat, split)
  key_split = Reshape (key_flat, split)
  value_split = Reshape (value_flat, split)
  query = Transpose <perm = [0, 2, 1, 3]> (query_split)
  key_wide = Transpose <perm = [0, 2, 1, 3]> (key_split)
  value_wide = Transpose <perm = [0, 2, 1, 3]> (value_split)
  key_new = Cast <to = ELEMENT> (key_wide)
  value_new = Cast <to = ELEMENT> (value_wide)
  "present.0.key" = Concat <axis = 2> ("past_key_values.0.key", key_new)
  "present.0.value" = Concat <axis = 2> ("past_key_values.0.value", value_new)
  key = Cast <to = 1> ("present.0.key")
  value = Cast <to = 1> ("present.0.value")
  key_turned = Transpose <perm = [0, 1, 3, 2]> (key)
  raw = MatMul (query, key_turned)
  scaled = Mul (raw, scale)
  counted = CumSum (attention_mask, axis)
  place_of_key = Sub (counted, one)
  place_row = Unsqueeze (place_of_key, first)
  place_column = Unsqueeze (position_ids, second)
  hidden_from = Greater (place_row, place_column)
  hidden_heads = Unsqueeze (hidden_from, first)
  masked = Where (hidden_heads, never, scaled)
  weights = Softmax <axis = -1> (masked)
  mixed = MatMul (weights, value)
  mixed_turned = Transpose <perm = [0, 2, 1, 3]> (mixed)
  mixed_flat = Reshape (mixed_turned, join)
  seen = Add (mixed_flat, hidden)
  exact = MatMul (seen, head)
  logits = Cast <to = ELEMENT> (exact)
}
"""


class Model:
    """Random weights, the graph over them, and the same arithmetic in numpy without a cache."""

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        dims = {
            "words": (VOCABULARY, HIDDEN), "places": (CAPACITY, HIDDEN), "query_weight": (HIDDEN, HIDDEN),
            "key_weight": (HIDDEN, HIDDEN), "value_weight": (HIDDEN, HIDDEN), "head": (HIDDEN, VOCABULARY),
        }  # fmt: skip
        self.weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in dims.items()}

    def write(self, folder: Path, *, half: bool = False, graph: str = GRAPH) -> Path:
        for word, value in {"VOCABULARY": VOCABULARY, "HEADS": HEADS, "WIDTH": WIDTH, "HIDDEN": HIDDEN}.items():
            graph = graph.replace(word, str(value))
        model = onnx.parser.parse_model(
            graph.replace("FLOAT", "float16" if half else "float").replace("ELEMENT", "10" if half else "1")
        )
        constants = {"axis": np.array(1, np.int64), "one": np.array(1, np.int64), **self.weights}
        model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
        onnx.checker.check_model(model)
        (folder / GRAPH_FILE).write_bytes(model.SerializeToString())
        return folder

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        w = self.weights
        hidden = w["words"][ids] + w["places"][: len(ids)]
        query, key, value = (
            (hidden @ w[f"{part}_weight"]).reshape(len(ids), HEADS, WIDTH) for part in ("query", "key", "value")
        )
        raw = np.einsum("ihd,jhd->hij", query, key) * 0.5 + np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
        weights = np.exp(raw - raw.max(-1, keepdims=True))
        mixed = np.einsum("hij,jhd->ihd", weights / weights.sum(-1, keepdims=True), value).reshape(len(ids), HIDDEN)
        return np.asarray((mixed + hidden) @ w["head"], np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture
def decoder(tmp_path: Path, model: Model) -> Iterator[ExportedDecoder]:
    decoder = ExportedDecoder(model.write(tmp_path), slots=3, capacity=CAPACITY, threads=1)
    yield decoder
    decoder.close()


def read(decoder: ExportedDecoder, slot: int, ids: list[int], past: int = 0) -> NDArray[np.float32]:
    return decoder.step(slot, np.array([ids]), [past])[0].all()


def test_it_computes_what_plain_arithmetic_computes(decoder: ExportedDecoder, model: Model) -> None:
    np.testing.assert_allclose(read(decoder, 0, IDS), model.logits(IDS)[-1], atol=1e-4)
    assert (decoder.precision, decoder.provider, decoder.slots) == ("fp32", "CPUExecutionProvider", 3)


def test_every_gives_the_scores_after_each_token(decoder: ExportedDecoder, model: Model) -> None:
    read(decoder, 1, IDS[:4])
    scores = decoder.step(1, np.array([IDS[4:]]), [4], every=True)
    np.testing.assert_allclose([place.all() for place in scores], model.logits(IDS)[4:], atol=1e-4)


def test_rows_of_different_pasts_are_read_each_for_itself(decoder: ExportedDecoder, model: Model) -> None:
    prompts = [IDS[:4], IDS[:9], IDS[2:8]]
    for slot, prompt in enumerate(prompts):
        read(decoder, slot, prompt)
    scores = decoder.step(0, np.array([[7], [8], [9]]), [len(prompt) for prompt in prompts])
    wanted = [model.logits([*prompt, token])[-1] for prompt, token in zip(prompts, [7, 8, 9], strict=True)]
    np.testing.assert_allclose([row.all() for row in scores], wanted, atol=1e-4)


def test_tokens_behind_the_past_are_forgotten(decoder: ExportedDecoder, model: Model) -> None:
    read(decoder, 0, IDS)
    np.testing.assert_allclose(read(decoder, 0, [17], past=5), model.logits([*IDS[:5], 17])[-1], atol=1e-4)


def test_a_forked_slot_goes_its_own_way(decoder: ExportedDecoder, model: Model) -> None:
    read(decoder, 2, IDS)
    decoder.fork(2, 0, 6)
    np.testing.assert_allclose(read(decoder, 0, [17, 18], past=6), model.logits([*IDS[:6], 17, 18])[-1], atol=1e-4)
    np.testing.assert_allclose(read(decoder, 2, [4], past=len(IDS)), model.logits([*IDS, 4])[-1], atol=1e-4)


def test_a_slot_holds_its_capacity_and_no_more(decoder: ExportedDecoder, model: Model) -> None:
    full = [token % VOCABULARY for token in range(CAPACITY)]
    np.testing.assert_allclose(read(decoder, 0, full), model.logits(full)[-1], atol=1e-4)
    with pytest.raises(ValueError, match=f"{CAPACITY + 1} tokens"):
        read(decoder, 0, [1], past=CAPACITY)


def test_a_graph_in_half_precision_keeps_its_cache_in_half_precision(tmp_path: Path, model: Model) -> None:
    decoder = ExportedDecoder(model.write(tmp_path, half=True), slots=1, capacity=CAPACITY, threads=1)
    assert decoder.precision == "fp16"
    read(decoder, 0, IDS[:6])
    logits = read(decoder, 0, IDS[6:], past=6)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, model.logits(IDS)[-1], atol=0.05)


def test_streams_of_an_engine_say_together_what_arithmetic_says(decoder: ExportedDecoder, model: Model) -> None:
    class Greedy:
        def __init__(self) -> None:
            self.said: list[int] = []

        def follow(self, scores: Scores) -> Next:
            self.said.append(scores.best())
            return Next([self.said[-1]]) if len(self.said) < 12 else END

    prompts = [IDS[:4], [9, 9, 25], IDS, [*IDS, 3], [2] * 30]
    guides = [Greedy() for _ in prompts]
    engine = Engine(decoder)
    for done in [engine.submit(prompt, guide) for prompt, guide in zip(prompts, guides, strict=True)]:
        done.result(30)
    engine.close()
    for prompt, guide in zip(prompts, guides, strict=True):
        logits = model.logits([*prompt, *guide.said[:-1]])
        assert guide.said == logits[len(prompt) - 1 :].argmax(-1).tolist()


@pytest.mark.parametrize(
    ("was", "becomes", "why"),
    [
        ("position_ids,\n", "position_ids, int64[batch] use_cache_branch,\n", "asks for use_cache_branch"),
        ("VOCABULARY] logits", "VOCABULARY] exact", "does not give logits"),
        ("past_key_values.0", "cache.0", "asks for cache.0.key, cache.0.value"),
        (
            'FLOAT[batch, HEADS, past, WIDTH] "past_key_values.0.key"',
            'FLOAT[batch, h, past, WIDTH] "past_key_values.0.key"',
            "not \\[batch",
        ),
    ],
)
def test_a_graph_of_another_layout_is_refused(tmp_path: Path, model: Model, was: str, becomes: str, why: str) -> None:
    assert was in GRAPH
    folder = model.write(tmp_path, graph=GRAPH.replace(was, becomes))
    with pytest.raises(NotServable, match=why):
        ExportedDecoder(folder, slots=1, capacity=CAPACITY, threads=1)


def test_a_cache_of_another_type_is_refused(tmp_path: Path, model: Model) -> None:
    folder = model.write(tmp_path, graph=GRAPH.replace("FLOAT", "double").replace("ELEMENT", "11"))
    with pytest.raises(NotServable, match="tensor\\(double\\)"):
        ExportedDecoder(folder, slots=1, capacity=CAPACITY, threads=1)
