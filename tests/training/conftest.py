"""The training environment (`make train-env`, or MILEPOST_TRAINING_PYTHON), and programs that run in it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.support.training_python import training_python

Oracle: TypeAlias = Callable[..., dict[str, object]]
QUIET = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def python() -> Path:
    return Path(training_python())


@pytest.fixture(scope="session")
def oracle(python: Path) -> Oracle:
    """What transformers and peft say: oracle.py with arguments, its last line as JSON."""

    def ask(*arguments: str | Path) -> dict[str, object]:
        command = [str(python), "-I", "-W", "ignore", str(Path(__file__).with_name("oracle.py")), *map(str, arguments)]
        ended = subprocess.run(command, env=QUIET, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == 0, ended.stderr[-2000:]
        told: dict[str, object] = json.loads(ended.stdout.strip().splitlines()[-1])
        return told

    return ask
