"""What an export leaves behind, and how it says no."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from infra.models import export as exporting
from infra.models.export import (
    EnvironmentFailed,
    Exported,
    NotExportable,
    SourceUnreadable,
    ensure_environment,
    export,
)
from tests.oracle.conftest import Exporter
from tests.support.tiny_model import Tiny


def test_a_folder_says_what_was_exported(families: Path, exported: Exporter) -> None:
    folder = exported(families / "phi")
    record = Exported.model_validate_json((folder / "export.json").read_text())
    assert (record.architecture, record.vocabulary, record.context, record.ends) == ("phi", 300, 256, (2,))
    assert record.versions["optimum"].startswith("2.1.")
    assert {"model.onnx", "config.json", "export.json"} <= {path.name for path in folder.iterdir()}


def test_nothing_is_left_beside_the_target(families: Path, models: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    lines: list[str] = []
    export(families / "llama", target, home=models, on_line=lines.append)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert "exporting llama" in lines


@pytest.mark.parametrize("kind", ["no-such-architecture", "mamba"])
def test_an_architecture_that_optimum_does_not_know_is_refused(python: Path, models: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(NotExportable, match=kind):
        export(source, tmp_path, home=models)


def test_a_gguf_of_another_architecture_is_refused(python: Path, models: Path, tmp_path: Path) -> None:
    source = Tiny("plamo", True, Tiny.random("llama", tied=True).tensors).write(tmp_path / "tiny.gguf")
    with pytest.raises(NotExportable, match="plamo"):
        export(source, tmp_path, home=models)


def test_weights_that_are_cut_short_are_refused(families: Path, models: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_bytes((families / "llama" / "config.json").read_bytes())
    (source / "model.safetensors").write_bytes((families / "llama" / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(SourceUnreadable):
        export(source, tmp_path, home=models)


def test_a_file_that_is_no_gguf_is_refused(python: Path, models: Path, tmp_path: Path) -> None:
    source = tmp_path / "broken.gguf"
    source.write_bytes(b"not a model at all" * 10)
    with pytest.raises(SourceUnreadable, match="broken\\.gguf"):
        export(source, tmp_path, home=models)


def test_what_is_no_model_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="neither"):
        export(tmp_path, tmp_path, home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "OPTIMUM", replace(exporting.OPTIMUM, room=10**18))
    with pytest.raises(EnvironmentFailed, match="GB are free"):
        ensure_environment(tmp_path)


def test_a_registry_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentFailed, match="No matching distribution") as failed:
        ensure_environment(tmp_path)
    assert "registry" in failed.value.hint
    assert not (tmp_path / ".export-env" / "installed").exists()
