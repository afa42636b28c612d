"""What `milepost eval` refuses, and how it says so; nothing here loads a model."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from infra.cli import main, show
from infra.cli.words import use_language
from infra.evaluation.result import How
from infra.evaluation.wiring import Questions, Wanted, examine
from schemas.messages import Generation, Prompt
from tests.support.examined import ME, Doors, Told, items_of, lock, locks, said, speaker

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    """`milepost eval ARGUMENTS` in an empty folder: exit code, standard output, standard error."""

    def call_it(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["milepost", "eval", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        show._STATE["json"] = False
        return cast(int, ended.value.code or 0), told.out, told.err

    monkeypatch.chdir(tmp_path)
    for name in ("MILEPOST_DATA", "MILEPOST_EVAL", "LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MILEPOST_MODEL_HOME", str(tmp_path / "models"))
    yield call_it
    use_language("auto")


@pytest.mark.parametrize(
    ("arguments", "what", "more"),
    [
        (("bfcl",), "Nobody says where the data of bfcl are.", "--data FOLDER"),
        (("bfcl", "--data", "nowhere"), "does not exist", "next:"),
        (("bfcll", "--data", "."), "There is no benchmark 'bfcll'.", "did you mean bfcl?"),
        (("bfcl:live_simpel",), "bfcl has no part 'live_simpel'.", "did you mean live_simple?"),
        (("dialogues", "--model", "smollm2-135m"), "smollm2-135m is not built in", "milepost models build smollm2-135m"),
        (("dialogues", "--model", "smollm2"), "There is no model 'smollm2'.", "milepost models ls"),
        (("dialogues", "--model", "multilingual-e5-small"), "multilingual-e5-small says nothing.", "embedding"),
        (("dialogues", "--folder", "."), "holds no built model", "model.json"),
        (
            ("dialogues", "--model", "a", "--endpoint", "http://h/v1"),
            "--model and --endpoint name different ones",
            "one of them",
        ),
        (("dialogues", "--endpoint", "http://127.0.0.1:9/v1"), "The endpoint has many models.", "--name MODEL"),
        (
            ("dialogues", "--endpoint", "http://127.0.0.1:9/v1", "--name", "m", "--key-env", "NO_KEY"),
            "NO_KEY is not set",
            "export",
        ),
        (("dialogues", "--agent", "nobody.toml"), "nobody.toml", "next:"),
        (("dialogues", "--price", "cheap"), "'cheap' is no price.", "0.15/0.60 USD"),
        (("dialogues", "bfcl", "--html", "r.html"), "--html is of one benchmark", "eval show"),
        (("show", "nobody"), "There is no result nobody.", "there is none"),
        (("compare", "x", "y"), "There is no result x.", "there is none"),
        (("vote", "--a", "x", "--b", "x"), "x stands on both sides.", "--a X --b Y"),
        (("vote", "--a", "x", "--b", "y", "--prompt", "hi", "--benchmark", "bfcl"), "exclude each other", "one of them"),
        (("vote", "--a", "x", "--b", "y", "--prompt", " "), "Prompt 1 is empty.", "leave it out"),
        (("vote", "--a", "x", "--b", "y", "--from", "no.txt"), "no.txt cannot be read.", "next:"),
        (("votes", "--import", "no.jsonl"), "no.jsonl cannot be read.", "check the path"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(cli: Cli, arguments: tuple[str, ...], what: str, more: str) -> None:
    code, _, err = cli(*arguments)
    assert code == 1 and what in err and more in err, err


def test_all_tells_what_it_leaves_out_and_passes_over_nothing_that_is_there(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data" / "bfcl").mkdir(parents=True)
    code, _, err = cli("all", "--data", "data")
    left, _, refused = err.partition("\n")
    assert code == 1 and "left out" in left and "bfcl" not in left and "BFCL_v4_simple_python" in refused, err


def test_an_agent_without_a_stack_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text('name = "desk"\n')
    code, _, err = cli("dialogues", "--agent", "desk.toml", "--home", "none")
    assert code == 1 and "milepost up" in err, err


def test_an_endpoint_where_nobody_is_ends_with_why(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.evaluation.wiring.REMOTE_RETRIES", 0)
    monkeypatch.setattr("infra.evaluation.speakers.PAUSE_S", 0.0)
    ask = ("dialogues", "--endpoint", "http://127.0.0.1:9/v1", "--name", "m", "--limit", "6", "--json")
    code, out, _ = cli(*ask)
    error = json.loads(out)["error"]
    assert code == 1 and error["type"] == "TooTroubled" and "cannot be reached" in error["why"]


def test_benchmarks_are_listed_with_their_data(cli: Cli) -> None:
    listed = {each["name"]: each for each in json.loads(cli("ls", "--json")[1])}
    assert listed["dialogues"]["here"] and not listed["bfcl"]["here"]
    assert listed["bfcl"]["parts"][0] == "simple_python" and "ast_checker" in listed["bfcl"]["source"]
    code, out, err = cli("ls")
    assert code == 0 and "not here" in out and "--data" in err


async def kept(out: Path, name: str, door: str) -> None:
    def says(prompt: Prompt) -> Generation:
        return said(lock(door)) if door else locks(prompt)

    bench, who = Doors(6), ME.model_copy(update={"name": name, "hash": name})
    await examine(Questions(bench, "all", items_of(bench), 6), speaker(Told(says), who), How(), Wanted(None), out=out)


def test_results_in_both_languages(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cli("results")[2].startswith("no result is kept in .milepost-eval yet")
    for name, door in (("base", "2"), ("tuned", "")):
        asyncio.run(kept(tmp_path / ".milepost-eval", name, door))
    assert [each["who"]["name"] for each in json.loads(cli("results", "--json")[1])] == ["tuned", "base"]
    code, out, _ = cli("show", "base", "--wrong", "1", "--html", "base.html")
    assert code == 0 and "16.7%" in out and "another door  doors-0" in out and "doors-1" not in out
    assert (tmp_path / "base.html").read_text().count("<details") == 5
    code, out, _ = cli("compare", "base", "tuned", "--html", "both.html")
    assert code == 0 and "+83.3 [+50.0, +100.0] *" in out
    assert "tuned: 5 items right that the first has wrong, 0 the other way" in out
    assert (tmp_path / "both.html").exists()
    compared = json.loads(cli("compare", "base", "tuned", "--json")[1])
    assert compared["shared"] == 6 and len(compared["changed"]) == 5
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert "参数 F1" in cli("show", "base")[1] and "新增正确 5 项" in cli("compare", "base", "tuned")[1]
    code, _, err = cli("show", "base", "--html", "no/where.html")
    assert code == 1 and "no/where.html cannot be written." in err


def test_votes_are_imported_and_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "theirs.jsonl").write_text('{"a": "x", "b": "y", "vote": "a"}\n' * 3)
    code, out, err = cli("votes", "--import", "theirs.jsonl")
    assert code == 0 and "3 votes from theirs.jsonl" in err and "100.0%" in out
    assert json.loads(cli("votes", "--json")[1])["votes"] == 3
    (tmp_path / "broken.jsonl").write_text("{}\n")
    assert "Line 1 of broken.jsonl is no vote." in cli("votes", "--import", "broken.jsonl")[2]
    assert json.loads(cli("votes", "--json")[1])["votes"] == 3
