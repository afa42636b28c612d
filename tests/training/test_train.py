"""`milepost train` from a data set to a model that is served: here, interrupted, and as if on another machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from infra.training.run_folder import TO_RUN
from tests.support.own_models import hugging_face_folder

CARD = {
    "name": "get_weather", "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}  # fmt: skip


@pytest.fixture
def at(tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a data set and a tiny model."""
    monkeypatch.setenv("MILEPOST_MODEL_HOME", str(tmp_path / "models"))
    monkeypatch.setenv("MILEPOST_TRAINING_PYTHON", str(python))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (data := tmp_path / "data").mkdir()
    for part, count in (("train", 24), ("dev", 4)):
        rows = [row(f"{part}-{index}", f"town {index}") for index in range(count)]
        (data / f"milepost.{part}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    (data / "dataset.json").write_text(json.dumps({"use": "training", "license": "CC0-1.0", "title": "Towns"}))
    milepost(tmp_path, "models", "add", str(hugging_face_folder(tmp_path / "tiny")), "--licence", "mit")
    return tmp_path


def row(name: str, city: str) -> dict[str, object]:
    call = {"id": "c", "name": "get_weather", "arguments": {"city": city}}
    messages = [{"role": "user", "content": f"Weather in {city}?"}, {"role": "assistant", "content": "", "calls": [call]}]
    return {
        "id": name, "source": "mine", "group": name, "language": "en", "system": "", "tools": [CARD], "messages": messages,
    }  # fmt: skip


def milepost(folder: Path, *arguments: str, code: int = 0) -> dict[str, object]:
    """A command's JSON."""
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-m", "infra", *arguments, "--json"], cwd=folder, env={**os.environ, "PYTHONPATH": root},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == code, (ended.stdout + ended.stderr)[-3000:]
    told: dict[str, object] = json.loads(ended.stdout)
    return told


PLAN = (
    "--model",
    "tiny",
    "--rank",
    "4",
    "--length",
    "512",
    "--accumulate",
    "2",
    "--steps",
    "6",
    "--every",
    "3",
    "--lr",
    "0.005",
)


def test_from_a_data_set_to_a_model_that_is_served(at: Path) -> None:
    told = milepost(at, "train", "data", "--out", "run", *PLAN)
    card = told["card"]
    assert isinstance(card, dict)
    assert (card["base"], card["data"][0]["license"], card["metrics"]["steps"]) == ("tiny", "CC0-1.0", 6)
    events = [json.loads(line) for line in (at / "run/metrics.jsonl").read_text().splitlines()]
    measured = [each["loss"] for each in events if each["event"] == "evaluated"]
    assert measured[-1] < measured[0]
    assert "<figure>" in (at / "run/report.html").read_text()
    published = milepost(at, "models", "publish", "run", "--as", "tuned", "--gate", "none")
    assert published["base"] == "tiny"
    shown = milepost(at, "models", "show", "tuned")
    assert shown["trained"]["sha256"] == card["sha256"]  # type: ignore[index]


def test_training_elsewhere_comes_to_the_same(at: Path, python: Path) -> None:
    milepost(at, "train", "data", "--out", "here", *PLAN)
    milepost(at, "train", "data", "--out", "carried", "--plan-only", *PLAN)
    there = (at / "carried").rename(at / "elsewhere")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MILEPOST")}
    command = TO_RUN.replace("python", str(python), 1)
    subprocess.run(command, shell=True, cwd=there, env=variables, check=True, capture_output=True, timeout=600)
    card = milepost(at, "train", "--collect", "elsewhere")["card"]
    assert isinstance(card, dict)
    assert card["base"] == "tiny"
    ours, theirs = (load_file(at / folder / "final/adapter_model.safetensors") for folder in ("here", "elsewhere"))
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)


def test_what_cannot_be_trained_is_refused_before_anything_is_written(at: Path) -> None:
    def refused(*arguments: str, code: int = 1) -> str:
        error = milepost(at, "train", *arguments, code=code)["error"]
        assert isinstance(error, dict)
        assert error["next"]
        return str(error["type"])

    assert refused("nowhere", "--out", "run", *PLAN) == "NoDataset"
    assert refused("data", "--out", "run", "--model", "none") == "UnknownModel"
    assert refused("data", "--out", "run", *PLAN, "--rank", "0", code=2) == "Mistyped"
    assert refused("data", *PLAN, code=2) == "Mistyped"
    assert refused("data", "--out", "run", *PLAN, "--length", "8") == "NothingToLearn"
    (at / "data/dataset.json").write_text(json.dumps({"use": "evaluation"}))
    assert refused("data", "--out", "run", *PLAN) == "ForEvaluation"
    assert refused("--resume", "--out", "run") == "BadRun"
    assert refused("--collect", "run") == "BadRun"
    assert not (at / "run").exists()
