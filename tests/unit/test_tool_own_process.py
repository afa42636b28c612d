"""Tools of a folder in a process of their own: it may print, hang, crash and change, and nobody else is the worse for it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from runtime.payloads import SealedPayloads, memory_payloads
from schemas.tools import ToolCard
from tool_adapters.keeping import keeper, loader
from tool_adapters.own_process import loading, parent
from tool_adapters.own_process.parent import OwnProcess, ProcessTool
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    InvalidTool,
    NeedsAnswer,
    OutcomeUnknown,
    ToolError,
    ToolRefused,
    ToolUnavailable,
)

CODE = '''
import asyncio, os, sys, time
from pathlib import Path
from milepost_tools import *

print("loaded")

@tool
def add(a: int, b: int) -> int:
    """Adds."""
    print("adding", a, b)
    sys.stdin.read()
    return a + b

@tool
def pid() -> int:
    """Its process."""
    return os.getpid()

@tool
def secrets() -> list[str]:
    """What it sees."""
    return sorted(name for name in os.environ if name.startswith("MILEPOST_"))

@tool
async def block() -> str:
    """Blocks the loop."""
    time.sleep(60)

@tool(effect="write")
def die() -> str:
    """Dies."""
    os._exit(3)

@tool
def refuse() -> str:
    """Refuses."""
    raise ToolRefused("No.", code="Never", why="because")

@tool
def wonder() -> str:
    """Asks."""
    raise NeedsAnswer(Question(id="q1", text="Which?"))

@tool
def twice(picture: File) -> Image:
    """Doubles it."""
    return Image(picture.data * 2)

class Old(Tool):
    name = "old"
    description = "The class form."
    parameters = ({"name": "text", "description": "a text"},)

    def _local_call(self, *args, **kwargs):
        return {"result": kwargs["text"].upper()}
'''
IMPORTS = """
from schemas.tools import Question
from tool_adapters.media import File, Image
from tool_adapters.modelscope import Tool
from tool_adapters.python import tool
from tool_adapters.tool import NeedsAnswer, ToolRefused
"""

Find = Callable[[str], ProcessTool]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "things.py").write_text(CODE.replace("from milepost_tools import *", IMPORTS))
    (tmp_path / "test_things.py").write_text("raise AssertionError('a test is no tool')")
    return tmp_path


@pytest.fixture
async def process(folder: Path) -> AsyncIterator[OwnProcess]:
    process = OwnProcess("folder", str(folder))
    yield process
    await process.close()


@pytest.fixture
async def find(process: OwnProcess) -> Find:
    cards = {card.name: card.model_copy(update={"lane": "things"}) for card in await process.cards()}
    return lambda name: ProcessTool(cards[name], process)


CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", write_key="k1", timeout_s=20.0)


async def test_every_tool_of_the_folder_is_there_and_answers(process: OwnProcess, find: Find) -> None:
    names = [card.name for card in await process.cards()]
    assert names == ["add", "pid", "secrets", "block", "die", "refuse", "wonder", "twice", "old"]
    assert (await find("add").call({"a": 2, "b": 3}, CONTEXT)).text == "5"  # though it prints and reads
    assert (await find("old").call({"text": "loud"}, CONTEXT)).text == "LOUD"
    with pytest.raises(InvalidArguments):
        await find("add").call({"a": "two"}, CONTEXT)
    stale = find("add").card.model_copy(update={"description": "Adds up."})
    with pytest.raises(ToolError, match="has changed"):
        await ProcessTool(stale, process).call({"a": 1, "b": 2}, CONTEXT)


async def test_its_errors_are_ours(find: Find) -> None:
    with pytest.raises(ToolRefused, match="No") as refused:
        await find("refuse").call({}, CONTEXT)
    assert (refused.value.code, refused.value.why) == ("Never", "because")
    with pytest.raises(NeedsAnswer) as asked:
        await find("wonder").call({}, CONTEXT)
    assert asked.value.question.text == "Which?"


async def test_bytes_go_both_ways(find: Find) -> None:
    payloads: SealedPayloads = memory_payloads()
    context = CallContext(
        tenant="acme", run="r", user="u", keep=keeper(payloads, "acme", None), load=loader(payloads, "acme"), timeout_s=20.0
    )
    ref = await payloads.put(b"\x89PNG\r\n\x1a\n" * 100_000, tenant="acme", datakey=None)
    result = await find("twice").call({"picture": ref}, context)
    assert len(await payloads.get(str(result.parts[0].ref), tenant="acme")) == 1_600_000
    with pytest.raises(InvalidArguments, match="no payload"):
        await find("twice").call({"picture": "payload:" + "0" * 64}, context)


async def test_settings_of_ours_are_not_for_them(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("MILEPOST_POSTGRES_URL", "postgresql://me:secret@localhost")
    monkeypatch.setenv("MILEPOST_SECRET_TOKEN", "t")
    process = OwnProcess("folder", str(folder))
    try:
        card = next(card for card in await process.cards() if card.name == "secrets")
        assert (await ProcessTool(card, process).call({}, CONTEXT)).text == '["MILEPOST_SECRET_TOKEN"]'
    finally:
        await process.close()


async def test_a_write_whose_process_dies_is_in_doubt_and_a_read_may_be_tried_again(find: Find) -> None:
    before = (await find("pid").call({}, CONTEXT)).text
    with pytest.raises(OutcomeUnknown):
        await find("die").call({}, CONTEXT)
    pid = (await find("pid").call({}, CONTEXT)).text
    assert pid != before
    waiting = asyncio.create_task(find("block").call({}, CONTEXT))
    await asyncio.sleep(0)
    os.kill(int(pid), signal.SIGKILL)
    with pytest.raises(ToolUnavailable):
        await waiting


async def test_a_process_that_does_not_listen_any_more_is_started_again(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(parent, "LISTENS_S", 0.1)
    before = (await find("pid").call({}, CONTEXT)).text
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await find("block").call({}, CONTEXT)
    async with asyncio.timeout(20):
        while await _pid(find) in ("", before):
            pass


async def _pid(find: Find) -> str:
    try:
        return (await find("pid").call({}, CONTEXT)).text
    except ToolUnavailable:
        return ""


async def test_code_that_ends_its_process_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os; os._exit(3)")
    process = OwnProcess("folder", str(tmp_path))
    with pytest.raises(InvalidTool, match="cannot be loaded"):
        await process.cards()
    await process.close()


@pytest.mark.parametrize(
    ("code", "why"),
    [("import nowhere", "nowhere"), ("raise SystemExit(3)", "SystemExit"), ("def f(:", "SyntaxError"),
     ("from tool_adapters.python import tool\n@tool\ndef f(): pass", "no docstring")],
)  # fmt: skip
def test_code_that_cannot_be_loaded_is_named(tmp_path: Path, code: str, why: str) -> None:
    (tmp_path / f"broken_{tmp_path.name}.py").write_text(code)
    with pytest.raises(InvalidTool) as error:
        loading.of_folder(tmp_path)
    assert why in f"{error.value.what} {error.value.why}"


@pytest.mark.parametrize("name", ["json", "runtime"])
def test_a_file_does_not_stand_in_for_a_module_of_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("")
    with pytest.raises(InvalidTool, match="name of a module"):
        loading.of_folder(tmp_path)


def test_places_that_have_none() -> None:
    with pytest.raises(InvalidTool, match="is no folder"):
        loading.of_folder(Path("/nowhere"))
    with pytest.raises(InvalidTool, match="offers no tools"):
        loading.of_package("nowhere")


def test_entry_points_give_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_tools.py").write_text(IMPORTS + '@tool\ndef sell(n: int) -> int:\n    """Sells."""\n    return n\n')
    (tmp_path / "shop.py").write_text("import shop_tools\nsell = shop_tools.sell\ndef every(): return [shop_tools.sell]\n")
    about = tmp_path / "shop-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    for entry, count in [("a = shop_tools", 1), ("a = shop:sell", 1), ("a = shop:every\nb = shop:sell", 1)]:
        (about / "entry_points.txt").write_text(f"[milepost.tools]\n{entry}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        cards: list[ToolCard] = [tool.card for tool in loading.of_package("shop")]
        assert [card.name for card in cards] == ["sell"] * count
