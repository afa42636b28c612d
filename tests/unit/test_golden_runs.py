"""Runs that earlier versions recorded are still decided as they were, in every branch."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from infra.exports.reading import Export, load_export, read_export
from runtime import asking, calls, grounding, opening, policy, prompt
from runtime.replay import replay
from schemas.envelope import encode
from schemas.events import EVENTS, AnswerCopied, RunSealed

HERE = Path(__file__).parents[1] / "golden"
GOLDEN = sorted(HERE.glob("*.jsonl"))
CORPUS = sorted(HERE.glob("corpus-*/*.jsonl.gz"))


@cache
def recorded(path: Path) -> Export:
    with gzip.open(path, "rb") as file:
        return read_export(cast("BinaryIO", file), path)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_recorded_run_is_decided_as_it_was(path: Path) -> None:
    recorded = load_export(path)
    replayed = replay(recorded.run, recorded.facts)
    assert replayed.divergence is None
    assert replayed.outcome == "completed"


def test_the_first_decider_keeps_its_margins(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = load_export(GOLDEN[0])
    monkeypatch.setattr(prompt, "MARGINS_OF_VERSION_1", (-1.9, 1.0))
    assert replay(recorded.run, recorded.facts).divergence is not None


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_every_branch_of_the_corpus_is_decided_as_it_was(path: Path) -> None:
    export = recorded(path)
    replayed = replay(export.run, export.facts)
    assert (replayed.divergence, replayed.notes) == (None, ())
    said = {"RunCompleted": "completed", "RunFailed": "failed", "RunCancelled": "cancelled"}
    assert replayed.outcome in {said.get(stored.fact.kind) for stored in export.facts}
    for stored, data in export.both if export.key is None else ():
        assert encode(stored.fact) == data, "what was stored is written otherwise now, and hashed otherwise"


def test_the_corpus_has_every_kind_of_event() -> None:
    kinds = Counter(stored.fact.kind for path in CORPUS for stored in recorded(path).facts)
    assert {event.__name__ for event in EVENTS} - set(kinds) <= {AnswerCopied.__name__, RunSealed.__name__}
    assert any(recorded(path).key for path in CORPUS), "one of them is sealed"


@pytest.mark.parametrize(
    ("where", "name", "other"),
    [
        (prompt, "FIRST_MARGIN", -1.25), (prompt, "AFTER_RESULT_MARGIN", 1.25), (prompt, "TALKED_MARGIN", -5.0),
        (calls, "OBSERVATION_CHARACTERS", 11_999), (calls, "KEPT_RESULTS", 7),
        (asking, "QUESTIONS", 4), (grounding, "NAMED_AT_MOST", 0), (policy, "AGENT_APPROVAL", "own"),
        (grounding, "LONGEST_IDENTIFIER", 2), (opening, "SENTENCE", re.compile("x")),
    ],
)  # fmt: skip
def test_a_constant_of_the_fold_that_is_changed_fails_the_corpus(
    where: object, name: str, other: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, other)
    exports = [recorded(path) for path in CORPUS]
    assert not all(replay(export.run, export.facts).same for export in exports)
