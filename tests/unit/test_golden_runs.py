"""Runs that earlier versions recorded are still decided as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.files import load_export
from runtime import prompt
from runtime.replay import replay

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.jsonl"))


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
