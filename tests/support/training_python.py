"""The Python that trains: MILEPOST_TRAINING_PYTHON, or the environment that `milepost train` made beside the models."""

from __future__ import annotations

import os

import pytest

from infra.environments import is_there
from infra.settings import load
from infra.training.environment import TORCH, VARIABLE


def training_python() -> str:
    """Without one the test is skipped; in CI it fails."""
    if named := os.environ.get(VARIABLE):
        return named
    home = load().settings.model.home
    if is_there(TORCH, home):
        return str(home.resolve() / TORCH.folder / "bin" / "python")
    missing = f"there is no environment to train in: set {VARIABLE}, or run python -m infra.training.environment"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
