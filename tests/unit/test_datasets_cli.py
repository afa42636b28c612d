"""`milepost dataset`: sets built, mixed, shown and counted, and what is said of wrong asking."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast, get_args

import pytest

from infra.cli import dataset_reasons, main, show, words
from infra.cli.dataset_reasons import reason
from infra.datasets.writing import Writing
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example
from services.datasets.recorded import Unfit

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    """`milepost dataset ARGUMENTS` in an empty folder: exit code, standard output, standard error."""

    def call_it(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["milepost", "dataset", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        show._STATE["json"] = False
        return cast(int, ended.value.code or 0), said.out, said.err

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILEPOST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MILEPOST_MODEL_HOME", str(tmp_path / "models"))
    monkeypatch.delenv("MILEPOST_DATA", raising=False)
    yield call_it
    words.use_language("auto")
    show._STATE["json"] = False


CARD = ToolCard(
    name="count_herons", description="Counts herons.",
    parameters={"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]},
)  # fmt: skip


def talk(number: int, language: str = "en") -> Example:
    call = ToolCall(id="c1", name="count_herons", arguments={"where": f"mill {number}"})
    asked = f"How many herons nest beside mill number {number}?" if language == "en" else f"第{number}座磨坊旁有多少只鹭？"
    return Example(
        f"h-{number}", (), "", (CARD, ToolCard(name="play_song", description="Plays.", parameters={"type": "object"})),
        (
            Message(role="user", content=asked, origin="user"), Message(role="assistant", content="", calls=(call,)),
            Message(role="tool", name="count_herons", content=str(number)),
            Message(role="assistant", content=f"There are {number}."),
        ),
        "own", "birds", language,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = Writing(tmp_path / "own", ("milepost",))
    for number in range(1, 31):
        files.add("train", talk(number))
    files.close({"use": "training"})
    return tmp_path / "own"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of sets with one of our own sentences in Seal-Tools' form."""
    seal = tmp_path / "data" / "seal-tools" / "Seal-Tools_Dataset"
    seal.mkdir(parents=True)
    tools = [
        {"api_name": f"countBirds{n}", "api_description": "Counts.", "parameters": {"where": {"type": "str"}}} for n in range(6)
    ]
    (seal / "tool.jsonl").write_text("".join(json.dumps(each) + "\n" for each in tools))
    for name, place in (("dev", "by the lake shore"), ("test_in_domain", "on the church roof")):
        rows = [
            {"id": f"{name}-{n}", "query": f"Please count bird kind {n} {place} for me, will you",
             "calling": [{"api": f"countBirds{n}", "parameters": {"where": place}}]} for n in range(6)
        ]  # fmt: skip
        (seal / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows) + "broken\n")
    return tmp_path / "data"


def test_a_set_is_built_and_its_wrong_rows_are_told(cli: Cli, data: Path, tmp_path: Path) -> None:
    code, out, _ = cli(
        "build", "--set", "seal-tools", "--part", "train", "--data", str(data), "--out", "o", "--format", "openai"
    )
    assert code == 0 and "seal-tools in o · for training" in out and "skipped: 1 (not JSON), such as dev.jsonl:7" in out
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"dataset.json", "milepost.train.jsonl", "openai.train.jsonl"}
    code, out, _ = cli(
        "build", "--set", "seal-tools", "--part", "test-in-domain", "--data", str(data), "-o", "p", "--limit", "2", "--json"
    )
    told = json.loads(out)
    assert told["use"] == "evaluation" and told["examples"] == {"test-in-domain": 2}
    code, _, err = cli("build", "--set", "seal-tools", "--part", "train", "--data", str(data), "--out", "o")
    assert code == 1 and "holds a data set already" in err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("build", "--set", "seal-tool", "--out", "o"), "did you mean seal-tools?"),
        (("build", "--set", "seal-tools", "--part", "trian", "--out", "o"), "did you mean train?"),
        (("build", "--set", "seal-tools", "--out", "o"), "Which part of seal-tools?"),
        (("build", "--set", "seal-tools", "--part", "train", "--out", "o"), "MILEPOST_DATA"),
        (("build", "--set", "seal-tools", "--part", "train", "--out", "o", "--data", "nowhere"), "is no folder"),
        (("build", "--set", "seal-tools", "--part", "train", "--out", "o", "--data", "."), "does not exist"),
        (("build", "--set", "seal-tools", "--part", "train", "--out", "o", "--format", "csv"), "is no format"),
        (("build", "--out", "o"), "name runs by a query, or a public set by --set"),
        (("build", "agent:x", "--set", "seal-tools", "--out", "o"), "name runs by a query, or a public set by --set"),
        (("mix", "controler", "--out", "o"), "did you mean controller?"),
        (("mix", "controller", "--out", "o"), "--data FOLDER"),
        (("mix", "controller", "--out", "o", "--split-by", "luck"), "tool or conversation"),
        (("show", "nowhere"), "holds no data set"),
        (("show", "own", "99"), "no conversation 99"),
        (("show", "own", "0"), "no conversation 0"),
        (("show", "own", "h-31"), "did you mean h-3"),
        (("show", "own", "--part", "trian"), "did you mean train?"),
        (("stats", "own", "--html", "no/such/page.html"), "cannot be written"),
        (("stats", "own", "--tokenizer", "smollm2-135m"), "is not built"),
        (("stats", "own", "--tokenizer", "none-such"), "none-such"),
    ],
)
def test_wrong_asking_is_told_with_what_to_do(cli: Cli, folder: Path, asked: tuple[str, ...], said: str) -> None:
    code, out, err = cli(*asked)
    told = " ".join((out + err).split())
    assert code in (1, 2) and said in told and "next:" in told and "Traceback" not in told


def test_a_recipe_is_mixed_and_what_was_left_out_is_told(cli: Cli, folder: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "title: herons\nsources:\n- {folder: own, part: train, count: 20}\n- {set: seal-tools, part: train, weight: 1}\n"
        "no_call: {share: 0.2, made: 1.0}\nsize: 26\nmax_tokens: 400\nsplit: {parts: {train: 0.8, validation: 0.2}}\n"
    )
    code, out, err = cli("mix", "r.yaml", "--out", "m", "--data", str(data))
    assert code == 0, err
    assert "seal-tools/train" in out and "checked against 1 evaluation parts" in out and "part validation" in out
    assert "not checked: seal-tools/test-out-domain" in out
    told = json.loads((tmp_path / "m" / "dataset.json").read_text())
    assert sum(told["examples"].values()) == 26 and told["use"] == "training" and told["recipe"]["title"] == "herons"
    code, out, _ = cli("mix", "r.yaml", "--out", "n", "--data", str(data), "--json", "--seed", "0")
    assert json.loads(out)["files"] == told["files"]
    code, _, err = cli("mix", "r.yaml", "--out", "q")
    assert code == 1 and "--data FOLDER" in err


def test_what_is_for_evaluation_is_not_mixed_from_a_folder_either(cli: Cli, data: Path, tmp_path: Path) -> None:
    cli("build", "--set", "seal-tools", "--part", "test-in-domain", "--data", str(data), "--out", "e")
    (tmp_path / "r.yaml").write_text("sources: [{folder: e, part: test-in-domain}]\ncontamination: none\n")
    code, _, err = cli("mix", "r.yaml", "--out", "m")
    assert code == 1 and "is for evaluation" in err and not (tmp_path / "m" / "dataset.json").exists()


def test_a_conversation_is_shown_by_number_and_by_id(cli: Cli, folder: Path) -> None:
    code, out, _ = cli("show", "own", "2")
    assert code == 0 and "How many herons nest beside mill number 2?" in out and '→ count_herons {"where":"mill 2"}' in out
    assert "* count_herons(where: string): Counts herons." in out and "result count_herons: 2" in out
    assert cli("show", "own", "h-2")[1] == out
    code, out, _ = cli("show", "own", "h-3", "--json")
    assert json.loads(out)["messages"][1]["calls"][0]["arguments"] == {"where": "mill 3"}


def test_what_steers_a_terminal_is_not_shown(cli: Cli, tmp_path: Path) -> None:
    files = Writing(tmp_path / "x", ("milepost",))
    bad = Message(role="user", content="a\x1b[31mb\u202ec", origin="user")
    files.add("train", Example("i", (), "", (), (bad, Message(role="assistant", content="ok"))))
    files.close({})
    out = cli("show", "x")[1]
    assert "\x1b" not in out and "\u202e" not in out and "a[31mbc" in out


def test_numbers_are_told_as_text_as_data_and_as_a_page(cli: Cli, folder: Path, tmp_path: Path) -> None:
    code, out, _ = cli("stats", "own", "--html", "page.html", "--longer-than", "10")
    assert code == 0 and "train: 30 conversations" in out and "30 (100.0%) have more than 10 tokens" in out and "█" in out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 4 and "count_herons" in page and "<script" not in page and 'lang="en"' in page
    told = json.loads(cli("stats", "own", "--json")[1])["parts"]["train"]
    assert told["conversations"] == 30 and told["tools_called"] == 1 and told["calls"]["max"] == 1
    assert told["tokens"]["max"] >= told["tokens"]["p95"] >= told["tokens"]["p50"] > 0


def test_chinese_is_spoken(cli: Cli, folder: Path, tmp_path: Path) -> None:
    words.use_language("zh")
    assert "30 个对话" in cli("stats", "own", "--html", "page.html")[1]
    assert 'lang="zh-CN"' in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "用户" in cli("show", "own")[1]


def test_reasons_are_told_in_chinese_and_kept_in_english(cli: Cli, data: Path, tmp_path: Path) -> None:
    words.use_language("zh")
    out = cli("build", "--set", "seal-tools", "--part", "train", "--data", str(data), "--out", "o")[1]
    assert "跳过：1（不是 JSON），例如 dev.jsonl:7" in out
    assert "not JSON" in json.loads((tmp_path / "o" / "dataset.json").read_text())["skipped"]
    with (tmp_path / "o" / "milepost.train.jsonl").open("a") as file:
        file.write("broken\n")
    assert "省去：1（不是 JSON）" in cli("stats", "o", "--html", "page.html")[1]
    assert "不是 JSON: 1" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_every_reason_has_chinese_words() -> None:
    """The reasons are the texts that readers and checks give; a new one without a translation fails here."""
    words.use_language("zh")
    untold = {why for why in _reasons() if reason(why) == why}
    words.use_language("auto")
    assert len(_reasons()) > 60 and not untold


def _reasons() -> set[str]:
    root = Path(dataset_reasons.__file__).parents[2] / "services" / "datasets"
    texts = {*get_args(Unfit)}
    for path in [*root.glob("sets/*.py"), *root.glob("formats/*.py"), *root.glob("conversion/*.py"), root / "checks.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                if node.func.id in ("Skipped", "Unusable", "ValueError"):
                    texts.update(_texts(node.args[-1]))
            elif isinstance(node, ast.Return) and node.value and path.stem == "checks":
                texts.update(each for each in _texts(node.value) if " " in each)
    inner = {"not a literal", "not a mapping", "too long", "no operation 1 1"}  # caught, or put into another
    return texts - inner - {"1: 1"}  # where and what pydantic says


def _texts(node: ast.AST) -> Iterator[str]:
    """The texts in an expression as they are written, with 1 for what is put into them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(each.value) if isinstance(each, ast.Constant) else "1" for each in node.values)
    else:
        for each in ast.iter_child_nodes(node):
            yield from _texts(each)


def test_every_set_is_listed_with_what_its_parts_are_for(cli: Cli, data: Path) -> None:
    told = {each["name"]: each for each in json.loads(cli("ls", "--data", str(data), "--json")[1])}
    assert told["seal-tools"]["here"] is True and told["bfcl"]["here"] is False
    assert told["seal-tools"]["parts"]["test-in-domain"] == told["hammerbench"]["parts"]["held-back"] == "evaluation"
    code, out, _ = cli("ls", "--data", str(data))
    assert code == 0 and all(name in out for name in told)
