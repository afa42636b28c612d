"""`milepost certify` on files of runs in which a small model of one's own spoke."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.cli import main, show
from infra.exports.writing import Exported, save_export
from infra.models.adding import add
from infra.models.build import built_folder
from infra.models.catalogue import find
from infra.models.remote import Remote, add_remote
from infra.receipt_keys import RecorderKeys, make_receipt_keys
from runtime.certifying import Attestation, said_of_attestation
from runtime.prompt import build
from runtime.signing import is_genuine
from schemas.commands import Generate
from schemas.envelope import encode
from schemas.events import Generated
from schemas.messages import Generation, Manner
from services.llm.onnx_model import OnnxModel
from tests.support.builders import NOW, RunUnderTest, ready, spec
from tests.support.openai_server import serving
from tests.support.tiny_model import Tiny

Cli = Callable[..., tuple[int, Any]]
SAMPLING = {"max_tokens": 24}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with the tiny one, added as a person adds one."""
    folder = tmp_path_factory.mktemp("certified")
    source = Tiny.random("qwen2", tied=True).write(folder / "tiny.gguf")
    asyncio.run(add(source, home=folder / "models", name="tiny", chat="chatml"))
    return folder / "models"


@pytest.fixture(scope="module")
def model(models: Path) -> Iterator[OnnxModel]:
    model = OnnxModel.load(built_folder(find("tiny", models), models), slots=1, threads=1)
    yield model
    model.close()


@pytest.fixture
def cli(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """`milepost certify ARGUMENTS`: exit code, and what it printed; as JSON where that was asked for."""

    def call_it(*arguments: object) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["milepost", "certify", *map(str, arguments), "--home", str(tmp_path)])
        with pytest.raises(SystemExit) as ended:
            main()
        show._STATE["json"] = False
        out = capsys.readouterr().out
        code = ended.value.code
        return int(code or 0), json.loads(out) if "--json" in arguments else out

    monkeypatch.setenv("MILEPOST_MODEL_HOME", str(models))
    monkeypatch.setenv("MILEPOST_MODEL_THREADS", "1")
    monkeypatch.setenv("MILEPOST_MODEL_PROVIDER", "cpu")
    monkeypatch.chdir(tmp_path)
    yield call_it
    show._STATE["json"] = False


async def spoken(model: OnnxModel, /, *, certified: bool = True, **changes: object) -> RunUnderTest:
    """A run in which the model answered. changes: of what the log says that it said."""
    run = ready(spec(manner=Manner(certified=certified), sampling=SAMPLING, tool_k=0, model="tiny"))
    generation = await model.generate(build(run.state), on_text=lambda _: None)
    said = Generation.model_validate(generation.model_copy(update=changes).model_dump())
    run.answer(Generated(command=run.one(Generate), generation=said))
    run.end()
    return run


def saved(run: RunUnderTest, folder: Path) -> Path:
    save_export(folder / "run.jsonl", Exported(run.id, [encode(stored.fact) for stored in run.log]), NOW)
    return folder / "run.jsonl"


async def run_file(model: OnnxModel, folder: Path, /, **changes: Any) -> Path:
    return saved(await spoken(model, **changes), folder)


def test_a_certified_run_is_attested_and_signed_with_the_key_that_is_at_hand(
    model: OnnxModel, cli: Cli, tmp_path: Path
) -> None:
    file = asyncio.run(run_file(model, tmp_path))
    make_receipt_keys(tmp_path / "recorder.key")
    code, told = cli(file, "--out", tmp_path / "attested.json", "--json")
    assert (code, told["result"], [step["verdict"] for step in told["steps"]]) == (0, "match", ["match"])
    written = json.loads((tmp_path / "attested.json").read_text())
    assert written == {"attestation": told["attestation"], "signature": told["signature"]}
    stated, key = Attestation.model_validate(written["attestation"]), RecorderKeys(tmp_path / "recorder.key").signing()
    assert (stated.key, stated.receipt, stated.steps[0].model_hash) == (
        key.id,
        "",
        told["attestation"]["steps"][0]["model_hash"],
    )
    assert is_genuine(key.public, written["signature"], said_of_attestation(stated))
    other = stated.model_copy(update={"run": "another"})
    assert not is_genuine(key.public, written["signature"], said_of_attestation(other))
    assert base64.b64decode(written["signature"])


def test_a_log_whose_answer_was_changed_is_different(model: OnnxModel, cli: Cli, tmp_path: Path) -> None:
    file = asyncio.run(run_file(model, tmp_path, text="I never said that."))
    code, told = cli(file, "--json")
    assert (code, told["result"], told["signature"]) == (4, "different", "")
    (step,) = told["steps"]
    assert (step["same"], step["parting"]["token"], step["parting"]["recorded"]) == (False, 1, "I never said that.")
    code, page = cli(file)
    assert (code, "DIFFERENT" in page, "it was changed" in page, "I never said that." in page) == (4, True, True, True)


@pytest.mark.parametrize(
    ("part", "value", "name"), [("engine", "onnxruntime 0.1", "engine"), ("machine", "CPUExecutionProvider mips", "machine")]
)
def test_under_other_conditions_nothing_is_attested(
    part: str, value: str, name: str, model: OnnxModel, cli: Cli, tmp_path: Path
) -> None:
    run = asyncio.run(spoken(model))
    (generation,) = (each.fact.body.generation for each in run.log if isinstance(each.fact.body, Generated))
    assert generation.certificate
    certificate = generation.certificate.model_copy(update={part: value})
    code, told = cli(asyncio.run(run_file(model, tmp_path, certificate=certificate)), "--json")
    (step,) = told["steps"]
    assert (code, step["verdict"], step["same"]) == (3, "elsewhere", True)
    assert [(each["name"], each["recorded"]) for each in step["conditions"]] == [(name, value)]


def test_another_build_of_the_model_is_told_and_a_model_that_is_not_here_too(
    model: OnnxModel, cli: Cli, tmp_path: Path
) -> None:
    code, told = cli(asyncio.run(run_file(model, tmp_path, model_hash="f" * 32)), "--json")
    assert (code, [each["name"] for each in told["steps"][0]["conditions"]]) == (3, ["model"])
    (tmp_path / "other").mkdir()
    code, told = cli(asyncio.run(run_file(model, tmp_path / "other", model="nowhere")), "--json")
    assert (code, told["steps"][0]["verdict"], told["steps"][0]["same"]) == (3, "elsewhere", None)
    assert "nowhere" in told["steps"][0]["why"]


def test_of_a_run_that_was_not_certified_it_is_told_what_may_differ_and_by_how_much(
    model: OnnxModel, cli: Cli, tmp_path: Path
) -> None:
    file = asyncio.run(run_file(model, tmp_path, certified=False))
    code, told = cli(file, "--json")
    (step,) = told["steps"]
    assert (code, step["verdict"], step["same"]) == (3, "uncertified", True)
    spread = step["spread"]
    assert spread["chosen"] > 0
    assert spread["shift"] > 0
    assert all(each["margin"] <= spread["shift"] for each in spread["narrow"])
    assert spread["turned"] <= len(spread["narrow"])
    assert {"pieces", "batching", "machine"} <= set(step["may"])
    code, page = cli(file)
    assert code == 3
    assert "tokens could have gone otherwise" in page
    assert "milepost ask --certified" in page


def test_an_endpoint_elsewhere_is_not_asked_because_a_log_names_it(
    models: Path, model: OnnxModel, cli: Cli, tmp_path: Path
) -> None:
    add_remote(models, "far", Remote(base_url="http://127.0.0.1:9/v1", model="m"))
    for provider in ("http://127.0.0.1:9/v1", "CPUExecutionProvider"):
        folder = tmp_path / provider[:3]
        folder.mkdir()
        file = asyncio.run(run_file(model, folder, certified=False, model="far", provider=provider))
        code, told = cli(file, "--json")
        assert (code, told["steps"][0]["verdict"], told["steps"][0]["same"]) == (3, "uncertified", None)
    assert "remote model here" in told["steps"][0]["why"]


def test_a_run_without_a_model_step_attests_nothing(cli: Cli, tmp_path: Path) -> None:
    run = ready(spec(tool_k=0))
    code, page = cli(saved(run, tmp_path))
    assert (code, "no model spoke" in page) == (3, True)


async def test_an_endpoint_that_is_asked_again_proves_nothing_and_what_it_says_now_is_shown(
    models: Path, model: OnnxModel, cli: Cli, tmp_path: Path
) -> None:
    async with serving(model) as server:
        add_remote(models, "near", Remote(base_url=server.url, model="m"))
        file = await run_file(model, tmp_path, certified=False, model="near", provider=server.url, text="No.")
        code, told = await asyncio.to_thread(cli, file, "--ask-again", "--json")
    (step,) = told["steps"]
    assert (code, step["verdict"], step["same"], len(server.requests)) == (3, "uncertified", False, 1)
    assert (step["parting"]["recorded"], step["text"] != "No.") == ("No.", True)
