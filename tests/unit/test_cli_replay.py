"""milepost replay: several runs at once, what differs in words, and what the exit code says."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, cast

import pytest

from infra.cli import main, show, words
from infra.cli.words import use_language
from infra.exports.writing import write_export
from runtime import prompt
from tests.golden.record import approval_granted, denied, exported
from tests.support.builders import NOW, RunUnderTest

Replayed: TypeAlias = Callable[..., tuple[int, str]]

CORPUS = Path(__file__).parents[1] / "golden" / "corpus-4"


@pytest.fixture(autouse=True)
def own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the language nor the form of one command is that of the next."""
    monkeypatch.setitem(show._STATE, "json", False)
    monkeypatch.setitem(words._STATE, "language", "en")


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Replayed:
    """`milepost replay ARGUMENTS`: exit code and standard output."""

    def call_it(*names: object) -> tuple[int, str]:
        monkeypatch.setitem(show._STATE, "json", False)
        monkeypatch.setattr(sys, "argv", ["milepost", "replay", *map(str, names)])
        with pytest.raises(SystemExit) as ended:
            main()
        return cast(int, ended.value.code or 0), capsys.readouterr().out

    return call_it


def saved(path: Path, run: RunUnderTest) -> Path:
    with (gzip.open if path.suffix == ".gz" else open)(path, "wb") as out:
        write_export(out, exported(run), NOW)  # type: ignore[arg-type]  # it is written line by line
    return path


def test_files_folders_and_patterns_are_replayed_together(replayed: Replayed, tmp_path: Path) -> None:
    saved(tmp_path / "a.jsonl", approval_granted())
    saved(tmp_path / "b.jsonl.gz", denied())
    (tmp_path / "notes.txt").write_text("no run")
    for names in ([tmp_path], [tmp_path / "*.jsonl*"], [tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"]):
        code, out = replayed(*names)
        assert (code, "2 of 2 runs are decided the same" in out) == (0, True)
    said = json.loads(replayed(tmp_path, "--json")[1])
    assert said["same"] and [Path(each["name"]).name for each in said["runs"]] == ["a.jsonl", "b.jsonl.gz"]


def test_one_that_differs_is_explained_and_the_code_is_4(
    replayed: Replayed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "a.jsonl", approval_granted())
    monkeypatch.setattr(prompt, "FIRST_MARGIN", -3.5)
    code, out = replayed(tmp_path / "a.jsonl")
    assert code == 4
    for said in (
        "a decision differs at event 5 (Generated", "prompt_hash: the log has", "made by runtime.prompt.digested",
        "caused by event 4 (MemoryRecalled)", "decided by runtime.gathering.recalled", "began with decider 4",
    ):  # fmt: skip
        assert said in out
    use_language("zh")
    code, out = replayed(tmp_path / "a.jsonl")
    assert code == 4
    assert "第 5 个事件" in out and "由 runtime.prompt.digested 生成" in out
    told = json.loads(replayed(tmp_path / "a.jsonl", "--json")[1])["divergence"]
    assert (told["kind"], told["cause"], told["fields"][0]["path"]) == ("decision", [4, "MemoryRecalled"], "/prompt_hash")


def test_one_that_cannot_be_read_does_not_hide_the_others(replayed: Replayed, tmp_path: Path) -> None:
    saved(tmp_path / "a.jsonl", approval_granted())
    whole = saved(tmp_path / "b.jsonl.gz", denied()).read_bytes()
    (tmp_path / "b.jsonl.gz").write_bytes(whole[:-20])
    code, out = replayed(tmp_path)
    assert (code, "1 of 2 runs are decided the same" in out) == (1, True)
    said = json.loads(replayed(tmp_path, "--json")[1])
    assert [each.get("error", {}).get("type") for each in said["runs"]] == [None, "BadExport"]
    (tmp_path / "none").mkdir()
    assert replayed(tmp_path / "none")[0] == 1


def test_the_corpus_is_replayed_by_the_command_as_well(replayed: Replayed, tmp_path: Path) -> None:
    for name in ("sealed", "malformed"):
        shutil.copy(CORPUS / f"{name}.jsonl.gz", tmp_path)
    assert replayed(tmp_path)[0] == 0
