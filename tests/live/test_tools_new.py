"""What `milepost tools new` writes works as it is written; so do imports from folders, and the bytes that tools give back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infra.cli import tools_new
from infra.cli.tools_new import Changes, Lang
from runtime.client import Client
from schemas.events import CallPlanned
from schemas.ids import CommandId, RunId
from tests.support.node import NODE
from tests.support.other_programs import answers, environment, known, run, running
from tests.support.stack import LocalStack, for_the_session

LANGS = ("python", "node", "shell")
TEXT = "the till was opened"


def _rule(name: str, given: dict[str, object]) -> dict[str, object]:
    return {"role": "user", "match": name, "call": [{"name": name, "arguments": given}]}


CALLS: dict[str, dict[str, object]] = {
    **{f"{lang}_read": {"text": "one two three"} for lang in LANGS},
    **{f"{lang}_write": {"text": TEXT} for lang in LANGS},
}
RULES: list[dict[str, object]] = [
    *[_rule(name, given) for name, given in CALLS.items()],
    {"role": "user", "match": "draw", "call": [{"name": "draw_dot", "arguments": {}}]},
    {"role": "user", "match": r"measure (?P<ref>payload:\w+)", "call": [
        {"name": "measure_dot", "arguments": {"picture": "{ref}"}},
    ]},
    {"role": "tool", "match": ".*", "say": "Done: {0}"},
    {"role": "user", "match": ".*", "say": "You said: {0}"},
]  # fmt: skip
PICTURES = '''
from milepost import File, Image, tool

DOT = b"\\x89PNG\\r\\n\\x1a\\n" + bytes(8) + (3).to_bytes(4, "big") + (2).to_bytes(4, "big")

@tool
def draw_dot() -> Image:
    """Draws a dot."""
    return Image(DOT, name="dot.png")

@tool
def measure_dot(picture: Image) -> int:
    """Measures a picture."""
    return len(picture.data)
'''

Env = dict[str, str]


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    yield from for_the_session(RULES)


@pytest.fixture
def env(stack: LocalStack, tmp_path: Path, node_modules: Path) -> Env:
    (tmp_path / "node_modules").symlink_to(node_modules)
    return environment(stack, tmp_path / "bin")


@pytest.fixture
async def client(stack: LocalStack) -> AsyncIterator[Client]:
    async with stack.session() as (client, _):
        yield client


async def served(stack: AsyncExitStack, lang: str, env: Env, folder: Path) -> None:
    """Test it and start it, as its README says."""
    if lang == "python":
        assert "passed" in await run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", env=env, cwd=folder)
        await run("milepost", "tools", "import", "folder", ".", "--lane", folder.name, env=env, cwd=folder)
    elif lang == "node":
        wanted = json.loads((folder / "package.json").read_text())["dependencies"]
        assert wanted.items() <= json.loads((NODE / "package.json").read_text())["dependencies"].items()  # npm install
        await run("node", "--test", env=env, cwd=folder)
        await stack.enter_async_context(running("node", "serve.mjs", env=env, cwd=folder, until="answers"))
    else:
        assert (await run("./test.sh", env=env, cwd=folder)).endswith("ok\n")
        await stack.enter_async_context(running("./serve.sh", env=env, cwd=folder, until="istening on"))


@pytest.mark.parametrize("lang", LANGS)
async def test_new_tools_work_as_they_are_written(lang: str, client: Client, env: Env, tmp_path: Path) -> None:
    async with AsyncExitStack() as started:
        for effect in ("read", "write"):
            name = f"{lang}_{effect}"
            tools_new.new(name, Lang(lang), Changes(effect), tmp_path / name)
            await served(started, lang, env, tmp_path / name)
        card = await known(client, f"{lang}_read", "here")
        assert card.effect == "read"
        assert "3" in (await answers(client, f"{lang}_read", card.name))[0]
        card = await known(client, f"{lang}_write", "here")
        assert (card.effect, card.dry_run, card.idempotency) == ("write", "look", "key")
        planned: list[object] = []

        async def approve(run: RunId, id: CommandId) -> None:
            facts = await client.log.read(run)
            planned.extend(each.fact.body.preview.rows for each in facts if isinstance(each.fact.body, CallPlanned))
            await client.approve(run, id)

        told = await answers(client, f"{lang}_write", card.name, decide=approve)
        assert (told, planned) == (["entry 1 is in the log book"], [(("text", TEXT),)])
    assert len((tmp_path / f"{lang}_write" / "book.jsonl").read_text().splitlines()) == 1


async def test_bytes_are_kept_shown_fetched_and_given_to_a_later_tool(client: Client, env: Env, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "dots.py").write_text(PICTURES)
    await run("milepost", "tools", "import", "folder", "pictures", env=env, cwd=tmp_path)
    await known(client, "measure_dot", "here")
    (text,) = await answers(client, "draw it", "draw_dot")
    assert text.startswith("an image, dot.png, PNG 3x2, 24 bytes: payload:")
    ref = text.rpartition(" ")[2]
    await run("milepost", "payloads", "get", ref, "-o", "dot.png", env=env, cwd=tmp_path)
    assert (tmp_path / "dot.png").read_bytes().startswith(b"\x89PNG")
    assert await answers(client, f"measure {ref}", "measure_dot") == ["24"]


def test_names_and_folders_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("")
    for name, into in [("Word Count", None), ("class", None), ("word_count", tmp_path / "there")]:
        with pytest.raises(tools_new.NotNew):
            tools_new.new(name, into=into)
    assert os.listdir(tmp_path / "there") == ["file"]
