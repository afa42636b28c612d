"""Plans: read as they were written, and refused where they make no sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.training.plan import Plan

PATHS = {"base": "b", "train": "t", "dev": "d", "out": "o"}


def test_it_reads_what_it_wrote(tmp_path: Path) -> None:
    plan = Plan(**PATHS, method="full", epochs=2, weights={"answer": 1, "context": 0})
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"lenght": 512}, "a plan has no lenght"),
        ({"method": "dora"}, "method is 'dora'"),
        ({"precision": "fp16"}, "precision is 'fp16'"),
        ({"batch": 0}, "batch is 0; it is at least 1"),
        ({"batch": 1.5}, "batch is 1.5, which is no int"),
        ({"batch": True}, "batch is True, which is no int"),
        ({"packing": 1}, "packing is 1, which is no bool"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": 3}, "learning_rate is 3"),
        ({"dropout": 1.0}, "dropout and warmup"),
        ({"length": 1}, "length is 1"),
        ({"epochs": 0}, "never end"),
        ({"base": 3}, "base is 3, which is no str"),
        ({"weights": {"answer": -1}}, "the weight of answer is -1"),
        ({"weights": {"answer": "1"}}, "the weight of answer is '1'"),
        ({"weights": [1]}, "which is no dict"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, told: dict[str, object], why: str) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(PATHS | told))
    with pytest.raises(ValueError, match=why):
        Plan.read(tmp_path / "plan.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '"plan"', "{}"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises((ValueError, TypeError)):
        Plan.read(tmp_path / "plan.json")
