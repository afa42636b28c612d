"""A whole agent examined over the bus of a running stack: with the items' tools, and with its own; nothing is changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.cli import main, show
from infra.evaluation.result import How, Result, find, outcomes
from infra.evaluation.wiring import Questions, Subject, Wanted, examine, speaking
from schemas.agent import AgentSpec
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Skipped
from services.evaluation.benchmark import Benchmark
from services.evaluation.item import Item, Reply
from tests.support.stack import OPERATOR, LocalStack

DB = "i-bp1m5p7q2r8s4v6db01"
CLOCK = ToolCard(
    name="current_time", description="Tell the time of a zone.",
    parameters={"type": "object", "properties": {"timezone": {"type": "string"}}, "required": ["timezone"]},
)  # fmt: skip
SHANGHAI = ToolCall(id="c0", name="current_time", arguments={"timezone": "Asia/Shanghai"})


class Times(Benchmark):
    """What the scripted model is asked; right is what it calls."""

    name = "times"
    title = "Times"
    source = "this test"
    data = "times"
    parts = ("all",)

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        raise NotImplementedError

    def wrong(self, item: Item, reply: Reply) -> str:
        return "" if [call.name for call in reply.calls] == [call.name for call in item.calls] else "other calls"


def asked(id: str, text: str, *calls: ToolCall, before: tuple[Message, ...] = ()) -> Item:
    messages = (Message(role="system", content="Be brief."), *before, Message(role="user", content=text, origin="user"))
    return Item(id, "times", "times", "en", messages, (CLOCK,), calls)


async def examined(stack: LocalStack, out: Path, spec: AgentSpec, items: list[Item], *, own: bool) -> tuple[Path, Result]:
    wanted = Wanted(None, how=How(own_tools=own), limit_s=60)
    async with speaking(Subject(agent=spec), wanted, stack.loaded.settings) as (speaker, how):
        return await examine(Questions(Times(), "all", items, len(items)), speaker, how, wanted, out=out)


async def test_calls_of_the_items_tools_are_read_and_not_executed(scripted_stack: LocalStack, tmp_path: Path) -> None:
    before = (
        Message(role="user", content="Hello.", origin="user"),
        Message(role="assistant", content="Hello.", origin="model"),
    )
    items = [asked("time", "What time is it?", SHANGHAI), asked("then", "And what time now?", SHANGHAI, before=before)]
    folder, result = await examined(scripted_stack, tmp_path, OPERATOR, items, own=False)
    assert (result.right.value, result.troubled, result.who.kind, result.who.name) == (1.0, {}, "agent", "ops")
    assert result.spent.prompt_tokens > 0
    for each in outcomes(folder):
        assert each.reply.calls[0].arguments == {"timezone": "Asia/Shanghai"}
        assert (each.reply.offered, each.reply.steps) == (("current_time",), 1)
    async with scripted_stack.session() as (client, _):
        for each in outcomes(folder):
            state = await client.state(each.reply.extra["run"])  # type: ignore[arg-type]
            assert state.request is not None and state.request.agent.instructions == "Be brief."
            assert state.outcome in ("cancelled", "open"), state.outcome
            assert not any(message.role == "tool" for message in state.messages if message not in state.request.said)


async def test_an_agent_reads_with_its_own_tools_and_writes_nothing(scripted_stack: LocalStack, tmp_path: Path) -> None:
    before = await scripted_stack.effects(DB)
    renew = ToolCall(id="c0", name="RenewInstance", arguments={})
    items = [asked("time", "What time is it?", SHANGHAI), asked("renew", f"Renew {DB} for 1 month", renew)]
    folder, result = await examined(scripted_stack, tmp_path, OPERATOR, items, own=True)
    assert (result.right.value, result.troubled) == (1.0, {})
    replies = {each.id: each.reply for each in outcomes(folder)}
    assert replies["time"].text.startswith("Done: ") and replies["time"].steps == 2
    assert "RenewInstance" in (replies["renew"].offered or ())
    assert await scripted_stack.effects(DB) == before


def test_by_the_command_line(
    scripted_stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "desk.toml").write_text('name = "desk"\n')
    arguments = ["eval", "dialogues", "--agent", "desk.toml", "--limit", "3", "--home", str(scripted_stack.home), "--json"]
    monkeypatch.setattr(sys, "argv", ["milepost", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    show._STATE["json"] = False
    said = json.loads(capsys.readouterr().out)
    assert (ended.value.code or 0, said.get("items"), said["who"]["name"], said["troubled"]) == (0, 3, "desk", {}), said
    assert find(tmp_path / ".milepost-eval", "desk") == Path(said["folder"]).absolute()
