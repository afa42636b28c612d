"""`milepost eval` at a terminal with the smallest model: stopped and gone on with, a report that opens, and votes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from infra.cli import main, show
from infra.models.build import build
from infra.models.fetch import ModelUnavailable, ensure
from infra.settings import load
from tests.support.terminal import Terminal

SMOL = "smollm2-135m"
RUN = ("eval", "dialogues", "--model", SMOL, "--always", "--longest", "12", "--limit", "12", "--slots", "1", "--no-leaning")


@pytest.fixture
async def folder() -> Path:
    """The built model; fetched and built if need be."""
    home = load().settings.model.home
    try:
        await ensure(SMOL, home=home)
    except ModelUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return await build(SMOL, home)


def milepost(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "infra", *arguments)


def environment(language: str = "en_US.UTF-8") -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "LC_ALL": language, "MILEPOST_MODEL_HOME": str(load().settings.model.home)}


def test_stopped_with_ctrl_c_it_says_how_to_go_on_and_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Terminal(milepost(*RUN), environment=environment(), folder=tmp_path) as terminal:
        terminal.wait_for("2/12", 120)
        terminal.process.send_signal(signal.SIGINT)
        code, shown = terminal.end()
    assert code == 130 and "of 12: the same command goes on from there." in shown
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILEPOST_MODEL_HOME", str(folder.parents[1]))
    monkeypatch.setattr(sys, "argv", ["milepost", *RUN, "--json", "--html", "report.html"])
    with pytest.raises(SystemExit) as ended:
        main()
    show._STATE["json"] = False
    said = json.loads(capsys.readouterr().out)
    assert (ended.value.code or 0, said["items"]) == (0, 12)
    assert 2 <= said["kept"] < 12
    assert said["who"]["precision"] == "int8" and said["spent"]["completion_tokens"] > 0
    assert said["figures"]["no_tool_recall"]["value"] == 0.0  # it was to call always
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_votes_are_blind_and_counted(folder: Path, tmp_path: Path) -> None:
    asked = ("--prompt", "Say hello.", "--prompt", "你好", "--longest", "8")
    command = milepost("eval", "vote", "--a", SMOL, "--b", str(folder), *asked)
    with Terminal(command, environment=environment("zh_CN.UTF-8"), folder=tmp_path) as terminal:
        before = terminal.wait_for("哪个更好", 120)
        assert "Say hello." in before and str(folder) not in before and SMOL not in before
        terminal.type("1\n")
        terminal.wait_for("1 是 ")
        terminal.wait_for("哪个更好", 120)
        terminal.type("b\n")
        code, shown = terminal.end()
    assert code == 0 and "已记录 2 票" in shown
    first, second = [json.loads(line) for line in (tmp_path / ".milepost-eval" / "votes.jsonl").read_text().splitlines()]
    assert first["vote"] == first["first"] and first["prompt"] == "Say hello."
    assert second["vote"] == "bad" and all(second["replies"])
    with Terminal(milepost("eval", "votes"), environment=environment("zh_CN.UTF-8"), folder=tmp_path) as terminal:
        code, shown = terminal.end()
    assert code == 0 and "评分" in shown and SMOL in shown
