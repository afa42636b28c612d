"""HammerBench's likeness of arguments beside the package that it takes, out of its wheel."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from services.evaluation.benchmarks.hammerbench import rouge

ENGLISH = ["a", "red", "car", "on", "1.5", "km", "Bonn.", "the", "x.y", "?", "Red", "two"]
CHINESE = [*"明天上午九点在北京南站见面", "A4", " ", ".", "。", "10:30"]


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], float]:
    """ROUGE-L F of two texts by the package, as HammerBench prepares them for English; 0 where it raises."""
    folder: Path = tmp_path_factory.mktemp("rouge")
    fetch = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, "rouge==1.0.1", "six"]
    subprocess.run(fetch, check=True, timeout=300)
    sys.path.insert(0, str(folder))
    scorer = import_module("rouge").Rouge()

    def score(said: str, wanted: str) -> float:
        try:
            return float(scorer.get_scores(said, wanted)[0]["rouge-l"]["f"])
        except ValueError:  # nothing is left of one
            return 0.0

    return score


def test_english_by_words(official: Callable[[str, str], float]) -> None:
    dice = random.Random(1)
    for _ in range(2_000):
        said, wanted = (" ".join(dice.choices(ENGLISH, k=dice.randint(1, 9))) for _ in "ab")
        if said != wanted and all(text.strip(".?! ") for text in (said, wanted)):
            assert rouge(said, wanted, "en") == official(said.strip(".?! ").lower(), wanted.strip(".?! ").lower()), (
                said,
                wanted,
            )


def test_chinese_by_characters(official: Callable[[str, str], float]) -> None:
    dice = random.Random(2)
    for _ in range(2_000):
        said, wanted = ("".join(dice.choices(CHINESE, k=dice.randint(1, 9))) for _ in "ab")
        apart = [
            "".join(f" {sign} " if "\u4e00" <= sign <= "\u9fff" else sign for sign in text.strip("。！ "))
            for text in (said, wanted)
        ]
        if said != wanted and all(text.strip() for text in apart):
            assert rouge(said, wanted, "zh") == official(*apart), (said, wanted)
