"""Data sets that are read where they are and never copied: MILEPOST_DATA, or ../shared/data beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def dataset(name: str) -> Path:
    """The folder of a data set. Without it the test is skipped; in CI it fails."""
    folder = Path(os.environ.get("MILEPOST_DATA") or ROOT.parent / "shared" / "data") / name
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"there is no {folder}: set MILEPOST_DATA")
        pytest.skip(f"there is no {folder}: set MILEPOST_DATA")
    return folder
