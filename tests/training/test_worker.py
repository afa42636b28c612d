"""The trainer where torch is: the loss it says, the weights it ends with, interruptions, and what it refuses.

Most of it is measured by one process of the training environment (checks.py); here stand the bounds.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.training.plan import Plan
from tests.support.training_python import training_python

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
ADAPTER = "final/adapter_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def measured(folder: Path) -> dict[str, Any]:
    """All checks, and in `folder` a tiny model and its data."""
    command = [training_python(), str(Path(__file__).with_name("checks.py")), str(folder)]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=1500, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    held: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return held


def close(one: float, other: float) -> bool:
    return one == pytest.approx(other, abs=1e-5)


def test_loss_and_gradients_are_those_of_the_oracle(measured: dict[str, Any]) -> None:
    """Packed rows, padded rows, checkpointed or not: as each conversation alone, in numpy."""
    assert len(measured["weighted_loss"]) == 4
    for name, found in measured["weighted_loss"].items():
        assert found["loss"] < 1e-5, name
        assert found["gradients"] < 1e-5, name
        assert found["batches"] > 1, name  # an update of several parts
        again = 2 if "checkpointing=True" in name else 1
        assert found["forwards"] == again * found["batches"], name


def test_logits_are_made_for_weighted_tokens_only(measured: dict[str, Any]) -> None:
    found = measured["weighted_loss"]["packing=True checkpointing=False"]
    assert found["head"] == found["predicted"] == found["weighted_tokens"] < found["tokens"] / 2


def test_a_conversation_does_not_see_its_neighbours(measured: dict[str, Any]) -> None:
    assert measured["conversations_apart"]["count"] > 0
    assert measured["conversations_apart"]["difference"] == 0


def test_an_adapter_in_one_step_is_pefts(measured: dict[str, Any]) -> None:
    found = measured["fused_layers"]
    assert found["fp32"]["layers"] == 14  # seven of each of two layers
    assert found["fp32"]["loss"] < 1e-6
    assert found["fp32"]["gradients"] < 1e-5
    assert found["bf16"]["loss"] < 1e-3
    assert found["bf16"]["gradients"] < 0.03
    assert found["bf16"]["dtypes"] == ["torch.float32"]


def test_it_learns_and_peft_reads_what_it_learnt(measured: dict[str, Any]) -> None:
    found = measured["adapter_in_peft"]
    assert found["code"] == 0
    assert found["last"] < found["first"] - 0.3
    assert found["loss"] < 1e-4
    assert found["base"] == "base"  # no path of this machine
    assert found["kept"] == ["step-00000028", "step-00000030"]


def test_a_result_says_how_it_came_about(measured: dict[str, Any]) -> None:
    found = measured["adapter_in_peft"]
    assert (found["result"]["reason"], found["result"]["steps"], found["result"]["devices"]) == ("steps", 30, 1)
    assert "CPU" in found["result"]["device"]
    assert set(found["result"]["versions"]) >= {"python", "torch", "transformers", "peft", "accelerate"}
    assert found["by_kind"]
    assert found["kinds"] == ["answer", "end", "markup", "name", "parameters", "url"]
    assert found["metrics_are_events"]
    assert {"loss", "learning_rate", "gradient_norm", "tokens_per_second", "memory_mib", "eta"} <= set(found["step"])


def test_a_run_that_is_over_says_so_again(measured: dict[str, Any]) -> None:
    assert measured["adapter_in_peft"]["again"] == [0, ["done"]]


def test_the_learning_rate_rises_and_falls(measured: dict[str, Any]) -> None:
    rates = measured["adapter_in_peft"]["rates"]
    top = rates.index(max(rates))
    assert 1 <= top <= 4
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.02 * rates[top]


def test_the_same_plan_gives_the_same_weights(measured: dict[str, Any]) -> None:
    assert measured["same_twice"] == {"losses": True, "bytes": True, "other": False}


def test_each_update_drops_other_inputs(measured: dict[str, Any]) -> None:
    alike, dropped = measured["dropout_anew"]
    assert alike < 1e-5
    assert dropped > 1e-3


def test_an_update_is_the_same_in_one_part_or_eight(measured: dict[str, Any]) -> None:
    wide, deep = measured["parts_of_an_update"]
    for one, other in zip(wide, deep, strict=True):
        assert close(one[0], other[0])
        assert close(one[1], other[1])
        assert one[2] == other[2]


def test_it_ends_early_with_the_best_full_weights(measured: dict[str, Any]) -> None:
    found = measured["full_and_early"]
    assert (found["code"], found["reason"], found["after_best"]) == (0, "patience", 2)
    assert found["best"] == found["told_best"] < found["steps"]
    assert found["loss"] < 1e-5
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(found["files"])


def test_it_ends_in_time_and_goes_on_when_it_may(measured: dict[str, Any]) -> None:
    found = measured["time_bound"]
    assert found["reason"] == "seconds"
    assert 0.9 < found["seconds"] < 10
    assert found["saved"]
    assert found["final"]
    assert found["last_rate"] < 0.9
    assert found["again"] == ["done"]
    assert found["resumed_at"] == found["steps"] < found["more"]


def test_a_full_disk_leaves_the_last_checkpoint(measured: dict[str, Any]) -> None:
    found = measured["disk_full"]
    assert found["code"] == 3
    assert found["event"]["what"] == "step-00000008 could not be saved"
    assert "File too large" in found["event"]["why"]
    assert "make room" in found["event"]["hint"]
    assert found["left"] == ["step-00000006"]
    assert found["unchanged"]
    assert found["same"]  # as the run whose disk was never full


def test_a_checkpoint_cut_off_is_passed_over(measured: dict[str, Any]) -> None:
    assert measured["broken_checkpoint"] == {"resumed_at": 6, "same": True}


def test_a_loss_that_is_no_number_names_step_and_row(measured: dict[str, Any]) -> None:
    found = measured["no_number"]
    assert found["code"] == 3
    assert found["event"]["event"] == "refused"
    assert found["event"]["what"] == f"the loss of step {found['steps'] + 1} is no number"
    assert "over rows 117 of" in found["event"]["why"]


def test_a_gradient_that_is_no_number_ends_before_it_is_learnt(measured: dict[str, Any]) -> None:
    found = measured["no_gradient"]
    assert found["code"] == 3
    assert found["event"]["what"] == "the gradient of step 1 is no number"
    assert "is NaN or infinite over rows 1" in found["event"]["why"]
    assert found["saved"] == 0


def test_too_little_memory_says_what_to_try(measured: dict[str, Any]) -> None:
    found = measured["no_memory"]
    assert found["code"] == 3
    assert found["event"]["what"] == "out of memory"
    assert found["event"]["hint"].startswith('set "batch": 2 and "accumulate": 6')


REFUSALS = {
    "other tokenizer": "of another tokenizer",
    "other tokenizer in dev": "of another tokenizer",
    "nothing to learn": "holds nothing to learn",
    "kind without a weight": "cannot be weighted",
    "cut off": "is no token file",
    "no data": "is no token file",
    "no model": "is no model that can be trained",
    "no weights": "is no model that can be trained",
    "cut weights": "is no model that can be trained",
    "no folder": "is no model that can be trained",
    "another run": "holds another run",
    "qlora without a GPU": "qlora needs a GPU",
    "unknown key": "is no plan",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_input_is_refused(measured: dict[str, Any], name: str) -> None:
    found = measured["refused"][name]
    assert found["code"] == 3
    assert found["event"] == "refused"
    assert REFUSALS[name] in found["what"]
    assert found["why"]
    assert found["hint"]


def plan(folder: Path, like: str, name: str, **told: Any) -> Path:
    """The plan of another run, with a folder of its own."""
    path = folder / f"{name}.json"
    replace(Plan.read(folder / f"{like}.json"), out=str(folder / name), **told).write(path)
    return path


@contextmanager
def training(path: Path, *launcher: str) -> Iterator[subprocess.Popen[str]]:
    """A run as people begin it."""
    command = [training_python(), *launcher, "-m", "services.training", str(path)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def finished(path: Path, *launcher: str) -> list[dict[str, Any]]:
    with training(path, *launcher) as process:
        assert process.stdout is not None
        events = [json.loads(line) for line in process.stdout]
        assert process.wait(120) == 0
    return events


def test_stopped_and_killed_it_ends_with_the_same_bytes(folder: Path, measured: dict[str, Any]) -> None:
    found = measured["interrupted"]
    assert found["stopped"] == {"code": 143, "last": ["saved", "stopped"], "step": found["stopped"]["step"]}
    assert found["killed"] == -9
    events = finished(folder / "interrupted.json")
    assert events[0]["resumed_at"] > found["stopped"]["step"]
    assert events[0]["resumed_at"] % 4 == 0  # killed, it could not save
    assert (folder / "interrupted" / ADAPTER).read_bytes() == (folder / "whole" / ADAPTER).read_bytes()
    after = {one["step"]: one["loss"] for one in events if one["event"] == "step"}
    whole = measured["uninterrupted"]["whole"]
    assert after == {one["step"]: one["loss"] for one in whole if one["event"] == "step" and one["step"] in after}


def test_two_processes_learn_what_one_does(folder: Path, measured: dict[str, Any]) -> None:
    one = measured["uninterrupted"]["alone"]
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    two = finished(plan(folder, "alone", "together", accumulate=2), *launcher)
    assert (one[0]["devices"], two[0]["devices"]) == (1, 2)
    steps = [[each for each in events if each["event"] == "step"] for events in (one, two)]
    assert len(steps[0]) == len(steps[1]) == 4
    for alone, together in zip(*steps, strict=True):
        assert close(alone["loss"], together["loss"])
        assert close(alone["gradient_norm"], together["gradient_norm"])
        assert alone["tokens"] == together["tokens"]
    assert close(one[-1]["dev"]["loss"], two[-1]["dev"]["loss"])
