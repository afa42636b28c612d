"""A training run's folder, its plan, the trainer as a child, and the report; the trainer is a stand-in that needs no torch."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from infra.cli.words import say_in
from infra.cli.words_training import WORDS
from infra.models.adapters import card_of
from infra.training import curves, environment
from infra.training.environment import NoTrainer, look, python_for
from infra.training.planning import Asked, plan_of, weights_of
from infra.training.report import duration, report
from infra.training.run_folder import BadRun, Notes, events, finish, prepare, read_notes, result
from infra.training.running import TrainerDied, Training, TrainingRefused, command
from schemas.canonical import JsonObject
from schemas.errors import Mistyped
from services.training.plan import WEIGHTS
from services.training.token_file import TokenFile

NOTES = Notes(
    name="tuned", model="tiny", base_sha256="a" * 64, base_weights="Q4_1", wire="json", licence="mit", languages=("en",),
    data=({"name": "mine", "sha256": "b" * 64, "license": "CC-BY-4.0"},), tokens={"train": {"examples": 3, "tokens": 30}},
)  # fmt: skip
STEP: JsonObject = {
    "event": "step",
    "step": 1,
    "of": 2,
    "loss": 2.0,
    "tokens": 10,
    "tokens_per_second": 5.0,
    "learning_rate": 1e-4,
}
SEEN: JsonObject = {"event": "evaluated", "step": 2, "loss": 1.5, "best": True, "accuracy": {"name": 0.5, "answer": 0.25}}
RESULT: JsonObject = {
    "reason": "steps", "steps": 2, "tokens": 20, "seconds": 65.0, "tokens_per_second": 5.0, "memory_mib": 100, "device": "CPU",
    "devices": 1, "versions": {"torch": "2.15.0"}, "dev": {"loss": 1.5}, "final": "final",
}  # fmt: skip


def tokens(folder: Path) -> Path:
    path = folder / "some.npz"
    TokenFile.of([(0, [1, 2, 3], [0, 1, 1])], ("context", "answer")).write(path)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    prepare(tmp_path / "run", plan_of(Asked(steps=2), base="base", dev=True), NOTES, (tokens(tmp_path), tokens(tmp_path)))
    return tmp_path / "run"


def stand_in(run: Path, *lines: str) -> None:
    """In the place of the trainer's own code: a program that says what a trainer would."""
    text = "import json, os, signal, sys, time\ndef tell(**told): print(json.dumps(told), flush=True)\n"
    (run / "trainer/services/training/__main__.py").write_text(text + "\n".join(lines) + "\n")


def followed(run: Path) -> str:
    with Training(Path(sys.executable), run) as training:
        told = list(training.events())
        return training.ended(told[-1] if told else None)


def test_once_over_the_data_unless_something_else_bounds_it() -> None:
    assert plan_of(Asked(), base="b", dev=True).epochs == 1
    assert plan_of(Asked(minutes=2), base="b", dev=True).epochs == 0
    assert plan_of(Asked(minutes=2), base="b", dev=True).seconds == 120
    both = plan_of(Asked(steps=5, epochs=3), base="b", dev=False)
    assert (both.epochs, both.steps, both.dev, both.alpha) == (3, 5, "", 32)
    assert plan_of(Asked(method="full"), base="b", dev=True).learning_rate == 2e-5


@pytest.mark.parametrize("asked", [Asked(rank=0), Asked(length=1), Asked(rate=2.0), Asked(batch=-1), Asked(minutes=-1)])
def test_a_plan_that_makes_no_sense_is_mistyped(asked: Asked) -> None:
    with pytest.raises(Mistyped):
        plan_of(asked, base="b", dev=True)


def test_weights_by_kind() -> None:
    assert weights_of("") == WEIGHTS
    assert weights_of("call=3, answer=0.5") == WEIGHTS | {"name": 3, "parameters": 3, "url": 3, "answer": 0.5}
    for wrong in ("call", "calls=2", "answer=-1", "answer=nan", "answer=x", "=2"):
        with pytest.raises(Mistyped):
            weights_of(wrong)


def test_a_run_holds_all_that_another_machine_needs(run: Path) -> None:
    plan, notes = read_notes(run)
    assert notes == NOTES
    assert (plan.base, plan.train, plan.dev, plan.out) == ("base", "train.npz", "dev.npz", ".")
    assert not any(Path(value).is_absolute() for value in (plan.base, plan.train, plan.dev, plan.out))
    np.testing.assert_array_equal(TokenFile.read(run / "train.npz").tokens, [1, 2, 3])
    code = {path.name for path in (run / "trainer/services/training").iterdir()}
    assert {"__main__.py", "plan.py", "trainer.py"} <= code
    assert (run / "trainer/services/__init__.py").exists()


def test_a_base_is_taken_along(tmp_path: Path) -> None:
    (base := tmp_path / "model").mkdir()
    (base / "config.json").write_text("{}")
    prepare(tmp_path / "run", plan_of(Asked(), base="base", dev=False), NOTES, (tokens(tmp_path), None), base)
    assert (tmp_path / "run/base/config.json").read_text() == "{}"
    assert not (tmp_path / "run/dev.npz").exists()


def test_a_run_is_never_written_over(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRun, match="holds a run already") as refused:
        prepare(run, plan_of(Asked(), base="b", dev=True), NOTES, (tokens(tmp_path), None))
    assert "--resume" in refused.value.hint


def test_what_is_no_run_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(BadRun, match="no training run"):
        read_notes(tmp_path)
    (run / "plan.json").write_text('{"base": 3}')
    with pytest.raises(BadRun, match="cannot be read"):
        read_notes(run)


def test_updates_that_were_done_again_are_told_once(run: Path) -> None:
    told = [
        STEP,
        {**STEP, "step": 2},
        {**STEP, "step": 3, "loss": 9.0},
        {"event": "begun", "resumed_at": 2},
        {**STEP, "step": 3},
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, told)) + '\n{"event": "st')
    assert [(each["event"], each.get("step"), each.get("loss")) for each in events(run)] == [
        ("step", 1, 2.0), ("step", 2, 2.0), ("begun", None, None), ("step", 3, 2.0),
    ]  # fmt: skip


def test_a_run_without_a_result_says_how_to_get_one(run: Path) -> None:
    with pytest.raises(BadRun, match="no result") as refused:
        result(run)
    assert "--resume" in refused.value.hint


def test_what_was_trained_gets_its_card(run: Path) -> None:
    (run / "final").mkdir()
    (run / "final/adapter_model.safetensors").write_bytes(b"abc")
    (run / "result.json").write_text(json.dumps(RESULT))
    card = finish(run)
    assert card_of(run / "final") == card
    assert (card.base, card.size, card.data[0]["license"]) == ("tiny", 3, "CC-BY-4.0")
    assert card.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (card.metrics["dev"], card.versions, card.plan["steps"]) == ({"loss": 1.5}, {"torch": "2.15.0"}, 2)
    assert "base" not in card.plan


def test_the_trainer_tells_until_it_is_done(run: Path) -> None:
    stand_in(run, "print('words of a library')", "tell(event='step', step=1)", "tell(event='done')")
    assert followed(run) == "done"
    assert (run / "trainer.log").read_text() == "words of a library\n"


def test_the_trainer_has_its_own_packages_alone(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    stand_in(run, "tell(event='done' if os.environ['PYTHONPATH'] == 'trainer' else 'wrong')")
    assert followed(run) == "done"


def test_one_trainer_works_in_a_folder_also_where_its_command_was_killed(run: Path) -> None:
    stand_in(run, "tell(event='begun')", "sys.stdin.read()", "time.sleep(60)")
    with Training(Path(sys.executable), run) as first:
        next(first.events())
        first._log.close()  # as if the command were gone: only the trainer has the log open
        with pytest.raises(BadRun, match="Another trainer is at work"):
            Training(Path(sys.executable), run)
    stand_in(run, "tell(event='done')")
    assert followed(run) == "done"


def test_a_refusal_is_the_trainers_own(run: Path) -> None:
    stand_in(run, "tell(event='refused', what='out of memory', why='8 GiB', hint='halve the batch')", "sys.exit(3)")
    with pytest.raises(TrainingRefused, match="out of memory") as refused:
        followed(run)
    assert (refused.value.why, refused.value.hint) == ("8 GiB", "halve the batch")


def test_a_trainer_that_dies_is_told_with_its_last_words(run: Path) -> None:
    stand_in(run, "raise RuntimeError('no such kernel')")
    with pytest.raises(TrainerDied, match="The trainer died") as died:
        followed(run)
    assert died.value.why == "RuntimeError: no such kernel"
    stand_in(run, "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(TrainerDied) as killed:
        followed(run)
    assert "memory" in killed.value.why
    assert "--resume" in killed.value.hint


def test_a_trainer_that_is_asked_to_stop_saves_and_says_so(run: Path) -> None:
    stand_in(
        run, "def stop(*_):", "    tell(event='stopped', step=7)", "    sys.exit(143)", "signal.signal(signal.SIGTERM, stop)",
        "tell(event='begun')", "signal.pause()",
    )  # fmt: skip
    with Training(Path(sys.executable), run) as training:
        heard = training.events()
        assert next(heard)["event"] == "begun"
        training.stop()
        last = list(heard)[-1]
        assert training.ended(last) == "stopped"
        assert training.stopping_for > 0


def test_a_trainer_that_fails_while_it_stops_is_not_taken_for_stopped(run: Path) -> None:
    stand_in(
        run, "def stop(*_): raise RuntimeError('disk full')", "signal.signal(signal.SIGTERM, stop)", "tell(event='begun')",
        "signal.pause()",
    )  # fmt: skip
    with Training(Path(sys.executable), run) as training:
        heard = training.events()
        last = next(heard)
        training.stop()
        with pytest.raises(TrainerDied):
            training.ended(last)


def test_who_leaves_early_leaves_nothing_running(run: Path) -> None:
    stand_in(run, "tell(event='begun')", "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "signal.pause()")
    with pytest.raises(ZeroDivisionError), Training(Path(sys.executable), run) as training:
        next(training.events())
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.killpg(training.pid, signal.SIGCONT)


def test_several_devices_are_driven_by_accelerate() -> None:
    assert command(Path("py"), 1)[:4] == ["py", "-u", "-m", "services.training"]
    assert command(Path("py"), 4)[2:5] == ["accelerate.commands.launch", "--num_processes", "4"]


def test_a_python_without_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(NoTrainer, match="cannot train") as refused:
        look(broken)
    assert refused.value.why == "no such library"
    assert "--plan-only" in refused.value.hint
    broken.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(environment, "LOOK_S", 0.2)
    with pytest.raises(NoTrainer, match="does not answer"):
        look(broken)
    with pytest.raises(NoTrainer, match="is no Python"):
        python_for(tmp_path / "none", tmp_path)
    monkeypatch.setenv("MILEPOST_TRAINING_PYTHON", str(broken))
    assert python_for(None, tmp_path) == broken


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_report_says_what_came_of_it_and_runs_nothing(run: Path, language: str) -> None:
    plan, _ = read_notes(run)
    notes = NOTES.model_copy(update={"name": "<script>"})

    def say(key: str, /, **values: object) -> str:
        return say_in(language, key, **values)  # type: ignore[arg-type]

    html = report(plan, notes, [STEP, {**STEP, "step": 2, "loss": 1.0}, SEEN], RESULT, say, language)
    assert "<script>" not in html
    assert "2.000 → 1.000" in html
    assert "1 min 5 s" in html
    assert "CC-BY-4.0" in html
    assert html.count("<figure>") == 4
    unfinished = report(plan, notes, [], {}, say, language)
    assert say("train unfinished") in unfinished
    assert "<figure>" not in unfinished


def test_axes_have_round_numbers_around_the_values() -> None:
    assert curves.ticks(0.62, 1.17) == [0.6, 0.8, 1.0, 1.2]
    assert curves.ticks(2.0, 2.0)[0] <= 2 <= curves.ticks(2.0, 2.0)[-1]
    assert [curves.number(value) for value in (0, 1500, 0.25, 1.5e-4, 2e-4)] == ["0", "1,500", "0.25", "1.5e-4", "2e-4"]
    assert curves.running_mean([(1, 1.0), (2, 3.0), (3, 5.0)]) == [(1, 1.0), (2, 2.0), (3, 4.0)]
    assert len(curves.thinned([(x, 1.0) for x in range(5000)])) <= 601
    assert curves.curves("t", "x", [curves.Curve("a", [])]) == ""


def test_durations_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (45, 200, 7500)] == ["45 s", "3 min 20 s", "2 h 5 min"]


def test_every_word_has_the_same_values_in_both_languages() -> None:
    import string

    for key, both in WORDS.items():
        english, chinese = ({name for _, name, _, _ in string.Formatter().parse(text) if name} for text in both)
        assert english == chinese, key
