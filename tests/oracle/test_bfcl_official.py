"""`milepost eval bfcl` judges as the official checker does, item for item; no network but for its wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.oracle.official_bfcl import CATEGORIES, VERSION, differences
from tests.support.datasets import dataset


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of bfcl-eval: MILEPOST_BFCL_WHEEL, or fetched and not installed."""
    if named := os.environ.get("MILEPOST_BFCL_WHEEL"):
        return Path(named)
    folder = tmp_path_factory.mktemp("bfcl")
    fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, f"bfcl-eval=={VERSION}"]
    subprocess.run(fetch, check=True, timeout=300)
    return next(folder.glob("*.whl"))


def test_every_reply_to_every_item_is_judged_alike(wheel: Path) -> None:
    counts: Counter[str] = Counter()
    found = list(differences(wheel, dataset("bfcl") / "bfcl_eval" / "data", changed=20, counts=counts))
    assert not found, found[:5]
    assert sum(counts[category] for category in CATEGORIES) == 3_641 * 22
    assert counts["right"] > 15_000 < counts["wrong"]
