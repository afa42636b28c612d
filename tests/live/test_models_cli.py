"""`milepost models` on real files: added, built in processes of their own, checked, measured, forgotten."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from infra.cli import main, show
from infra.models import build as builds
from infra.models import hub
from infra.models.adding import add
from infra.models.build import BuildFailed, build, built, built_folder
from infra.models.catalogue import find
from infra.models.export import Exported
from services.llm.build import read_manifest, sha256_of
from tests.support.own_models import hugging_face_folder
from tests.support.tiny_model import CONTEXT, Tiny

Cli = Callable[..., tuple[int, object, str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MILEPOST_MODEL_HOME", str(tmp_path / "models"))
    monkeypatch.setenv("MILEPOST_MODEL_THREADS", "1")
    monkeypatch.setenv("MILEPOST_MODEL_PROVIDER", "cpu")
    return tmp_path / "models"


@pytest.fixture
def cli(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    """`milepost models ARGUMENTS --json`: exit code, what it printed, and its error's type if there was one."""

    def call_it(*arguments: str) -> tuple[int, object, str]:
        monkeypatch.setattr(sys, "argv", ["milepost", "models", *arguments, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        said = json.loads(capsys.readouterr().out)
        show._STATE["json"] = False
        error = said["error"]["type"] if isinstance(said, dict) and "error" in said else ""
        return cast("int", ended.value.code or 0), said, error

    monkeypatch.chdir(tmp_path)
    yield call_it
    show._STATE["json"] = False


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return Tiny.random("qwen2", tied=True).write(tmp_path / "tiny.gguf")


def test_a_model_of_ones_own_from_its_first_day_to_its_last(cli: Cli, home: Path, tmp_path: Path) -> None:
    source = hugging_face_folder(tmp_path / "Tiny-Chat")
    code, told, _ = cli("add", str(source))
    assert (code, told) == (0, {
        "name": "tiny-chat", "sha256": find("tiny-chat", home).file.sha256, "licence": "mit", "chat": "chatml",
        "context": CONTEXT, "path": str(home / "tiny-chat"), "precision": "int8",
    })  # fmt: skip
    assert cli("build", "tiny-chat", "--precision", "int4")[0] == 0
    _, listed, _ = cli("ls")
    row = next(each for each in cast("list[dict[str, object]]", listed) if each["name"] == "tiny-chat")
    assert (row["state"], row["built"], row["origin"]) == ("verified", ["int8", "int4"], "added")
    _, shown, _ = cli("show", "tiny-chat")
    facts = cast("dict[str, list[dict[str, object]]]", shown)
    assert {file["name"]: file["sha256"] for file in facts["files"]} == {
        f"source/{path.name}": sha256_of(path) for path in source.iterdir()
    }
    assert [each["precision"] for each in facts["built"]] == ["int8", "int4"]
    _, figures, _ = cli("bench", "tiny-chat", "--seconds", "0")
    assert cast("dict[str, float]", figures)["decode_tok_s"] > 0
    assert cli("verify")[0] == 0
    assert cli("rm", "tiny-chat")[:2] == (0, {"removed": "tiny-chat"})
    assert cli("show", "tiny-chat")[2] == "UnknownModel"
    assert (source / "model.safetensors").exists()


def test_verify_says_what_is_wrong_where(cli: Cli, home: Path, gguf: Path) -> None:
    assert cli("add", str(gguf), "--chat", "chatml")[0] == 0
    built = built_folder(find("tiny", home), home)
    for path in (gguf, built / "model.onnx.data"):
        changed = bytearray(path.read_bytes())
        changed[-1] ^= 1
        path.write_bytes(changed)
    code, told, _ = cli("verify", "tiny")
    states = {each["what"]: each["state"] for each in cast("list[dict[str, str]]", told)}
    assert code == 1
    assert "is not the pinned one" in states["source/tiny.gguf"]
    assert states["built int8"] == "model.onnx.data was changed since it was built"


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_every_family_can_be_added(family: str, cli: Cli, tmp_path: Path) -> None:
    source = Tiny.random(family, tied=False).write(tmp_path / f"{family}.gguf")
    assert cli("add", str(source), "--chat", "chatml", "--licence", "MIT")[0] == 0


def _text(path: Path) -> None:
    path.write_text("I am no model.\n")


def _half(path: Path) -> None:
    Tiny.random("qwen2", tied=True).write(path)
    os.truncate(path, path.stat().st_size // 2)


def _few_bytes(path: Path) -> None:
    path.write_bytes(b"GGUF\x03\x00")


def _looping(path: Path) -> None:
    hugging_face_folder(path, template="{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")


def _no_tokenizer(path: Path) -> None:
    (hugging_face_folder(path) / "tokenizer.json").unlink()


def _no_config(path: Path) -> None:
    (hugging_face_folder(path) / "config.json").unlink()


def _other_family(path: Path) -> None:
    config = hugging_face_folder(path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "rwkv"}))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (Path.touch, "NotAdded"), (_text, "UnsupportedModel"), (_half, "UnsupportedModel"), (_few_bytes, "UnsupportedModel"),
        (_looping, "TemplateRefused"), (_no_tokenizer, "UnsupportedModel"), (_no_config, "NotAdded"),
        (_other_family, "UnsupportedModel"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_and_leaves_nothing(
    make: Callable[[Path], None], error: str, cli: Cli, home: Path, tmp_path: Path
) -> None:
    make(tmp_path / "bad")
    code, told, kind = cli("add", str(tmp_path / "bad"))
    assert (code, kind) == (1, error)
    assert all(cast("dict[str, dict[str, str]]", told)["error"][part] for part in ("what", "why", "next"))
    assert not list(home.glob("*")) if home.exists() else True


def test_a_disk_that_fills_up_while_a_graph_is_built_is_told_and_cleaned(home: Path, gguf: Path) -> None:
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    ended = subprocess.run(
        [sys.executable, "-m", "infra", "models", "add", str(gguf), "--chat", "chatml", "--json"],
        capture_output=True, text=True, cwd=ROOT, preexec_fn=small_disk, check=False,
    )  # fmt: skip
    error = json.loads(ended.stdout)["error"]
    assert (ended.returncode, error["type"]) == (1, "BuildFailed")
    assert "File too large" in error["why"]
    assert list(home.glob("*")) == []


async def test_two_builds_at_once_build_once(home: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    run_builder = builds._run_builder

    async def counted(name: str, home: Path, scratch: Path, precision: str, on_bytes: builds.OnBytes) -> None:
        runs.append(precision)
        await run_builder(name, home, scratch, precision, on_bytes)

    monkeypatch.setattr(builds, "_run_builder", counted)
    await add(gguf, home=home, chat="chatml")
    folders = await asyncio.gather(*(build("tiny", home, "int4") for _ in range(3)))
    assert len(set(folders)) == 1
    assert runs == ["int8", "int4"]


async def test_a_build_that_is_given_up_leaves_nothing(home: Path, gguf: Path) -> None:
    card = await add(gguf, home=home, chat="chatml")
    task = asyncio.create_task(build("tiny", home, "fp32", on_bytes=lambda _: task.cancel()))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [precision for precision, _ in built(card, home)] == ["int8"]
    assert not list((home / "tiny").glob(".building-*"))


async def test_older_builds_go_with_a_new_one_of_their_precision(home: Path, gguf: Path) -> None:
    card = await add(gguf, home=home, chat="chatml")
    folder = home / "tiny"
    for name in ("onnx-000000000000-1", "onnx-000000000000-2-int4", "onnx-000000000000-2-fp32", ".building-dead"):
        (folder / name).mkdir()
    made = await build("tiny", home, "int4")
    assert read_manifest(made).precision == "int4"
    left = {path.name for path in folder.iterdir() if path.is_dir()}
    assert left == {"source", "onnx-000000000000-2-fp32", made.name, built_folder(card, home).name}


async def test_a_builder_that_fails_tells_why(home: Path, gguf: Path) -> None:
    card = await add(gguf, home=home, chat="chatml")
    gguf.write_bytes(gguf.read_bytes()[:-1000])
    with pytest.raises(BuildFailed, match="cut short"):
        await build(card.name, home, "int4")
    assert not list((home / "tiny").glob(".building-*"))


@asynccontextmanager
async def hugging_face(folder: Path, *, wrong: str = "") -> AsyncIterator[str]:
    """A hub on loopback with the repository own/tiny; of the wrong file it announces another sum."""

    def entry(path: Path) -> dict[str, object]:
        large = path.name.endswith(".safetensors")
        oid = "0" * 64 if path.name == wrong else sha256_of(path)
        return {"type": "file", "path": path.name, "size": path.stat().st_size} | ({"lfs": {"oid": oid}} if large else {})

    async def tree(_: web.Request) -> web.Response:
        return web.json_response([entry(path) for path in folder.iterdir()] + [{"type": "directory", "path": "onnx"}])

    app = web.Application()
    app.router.add_get("/api/models/own/tiny/tree/main", tree)
    app.router.add_static("/own/tiny/resolve/main", folder)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_repository_of_a_hub_can_be_added(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = hugging_face_folder(tmp_path / "source")
    (source / "pytorch_model.bin").write_bytes(b"pickled")
    async with hugging_face(source) as url:
        monkeypatch.setattr(hub, "HUGGING_FACE", url)
        async with hub.repository("own/tiny", home=home) as fetched:
            card = await add(fetched, home=home, added_from="own/tiny")
    assert (card.name, card.added_from, card.licence) == ("tiny", "own/tiny", "mit")
    assert sorted(part.name for part in card.parts) == [
        f"source/{name}"
        for name in ("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    ]
    assert all((home / "tiny" / part.name).exists() for part in card.parts)
    assert not (home / ".hub" / "own" / "tiny").exists()


async def test_a_file_with_another_sum_than_announced_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hugging_face(hugging_face_folder(tmp_path / "source"), wrong="model.safetensors") as url:
        monkeypatch.setattr(hub, "HUGGING_FACE", url)
        monkeypatch.setattr(hub, "MODELSCOPE", "http://127.0.0.1:9")
        with pytest.raises(hub.NoRepository, match=r"it announced 0000.*ModelScope"):
            async with hub.repository("own/tiny", home=home):
                raise AssertionError("it was accepted")


def test_an_exported_model_is_registered_with_its_graph(
    cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = hugging_face_folder(tmp_path / "Other")

    def stand_in(_: Path, target: Path, *, home: Path, on_line: object) -> Exported:
        """What the exporter leaves; it is tested where its environment is (tests/oracle)."""
        for name in ("model.onnx", "model.onnx_data", "export.json", "config.json", "vocab.json"):
            (target / name).write_text(name)
        return Exported(architecture="other", vocabulary=300, context=512, ends=(1,), versions={})

    monkeypatch.setattr("infra.models.export.export", stand_in)
    code, told, _ = cli("export", "--with", "optimum", str(source), "--name", "other", "--licence", "Apache-2.0")
    manifest = read_manifest(built_folder(find("other", home), home))
    assert (code, cast("dict[str, object]", told)["licence"]) == (0, "Apache-2.0")
    assert (manifest.layout, manifest.precision, manifest.context, manifest.shape) == ("exported", "fp32", 512, None)
    assert [file.name for file in manifest.files] == [
        "config.json", "export.json", "model.onnx", "model.onnx_data", "tokenizer.json",
    ]  # fmt: skip
    assert cli("verify", "other")[0] == 0
    assert cli("build", "other", "--precision", "int4")[2] == "NoPrecision"
    assert cli("export", "--with", "magic", str(source))[2] == "MilepostError"


def test_a_remote_model_has_a_name_too(cli: Cli, home: Path, gguf: Path) -> None:
    assert cli("remote", "far", "--url", "http://host/v1", "--model", "m")[0] == 0
    _, listed, _ = cli("ls")
    assert next(each for each in cast("list[dict[str, object]]", listed) if each["name"] == "far")["origin"] == "remote"
    _, shown, _ = cli("show", "far")
    facts = cast("dict[str, object]", shown)
    assert (facts["base_url"], facts["model"], facts["key_set"]) == ("http://host/v1", "m", False)
    for command in ("verify", "build", "bench", "pull"):
        assert cli(command, "far")[2] == "ModelElsewhere"
    assert cli("remote", "worse", "--url", "ftp://host", "--model", "m")[2] == "MilepostError"
    assert cli("add", str(gguf), "--name", "far", "--chat", "chatml")[2] == "NotAdded"
    assert cli("rm", "far")[0] == 0
    assert cli("rm", "far")[2] == "NotAdded"
