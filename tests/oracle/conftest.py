"""What transformers and optimum compute, made once a session in the export environment (`make export-env`)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest

from infra.models.export import ensure_environment, export
from infra.settings import load

Exporter: TypeAlias = Callable[[Path], Path]


@pytest.fixture(scope="session")
def models() -> Path:
    """Where models and the export environment lie."""
    return load({}).settings.model.home


@pytest.fixture(scope="session")
def python(models: Path) -> Path:
    """The Python that has optimum."""
    return ensure_environment(models, on_line=print)


@pytest.fixture(scope="session")
def families(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tiny random decoders and of what transformers computes with them."""
    folder = tmp_path_factory.mktemp("families")
    script = Path(__file__).with_name("tiny_families.py")
    subprocess.run([python, "-I", script, folder], check=True, timeout=600)
    return folder


@pytest.fixture(scope="session")
def exported(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """Export a source by optimum, once; the folder with its graph."""

    @cache
    def make(source: Path) -> Path:
        target = tmp_path_factory.mktemp("exported")
        export(source, target, home=models)
        return target

    return make
