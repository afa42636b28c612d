"""One conversation of thirty turns in two languages, over documents and tools, on a whole stack of real processes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from runtime.client import Client, Update
from runtime.log import Stored
from runtime.replay import replay
from schemas import subjects
from schemas.agent import AgentSpec, Budget, Recall
from schemas.events import (
    ApprovalGranted,
    ApprovalRefused,
    KnowledgeRetrieved,
    MemoryRecalled,
    RunCompleted,
    ToolReturned,
    ToolsSelected,
)
from schemas.ids import RunId
from services.retrieval.knowledge import AddDocument
from tests.support.stack import LocalStack, for_the_session, persist, see_through

API = "i-bp1c3n6v8z2w5api01"
HISTORY_TOKENS = 700

DOCUMENTS = {
    "refunds.md": ("Refunds", "Refunds of subscription servers take five working days after the request."),
    "发票.md": ("发票", "电子发票在付款成功后的次日开具，可以在费用中心下载。"),
    "backups.md": ("Backups", "Snapshots of the system disk are kept for thirty days and then removed."),
}
RENEW, REFUSED = f"renew {API} for 1 month", f"请帮我续费 ECS 实例 {API}，时长 2 个月"
TOLD = "Please note that the purchase order of our web shop has the number ZX-7741-Q."


def renewal(months: int) -> dict[str, object]:
    """The call that the model makes of a wish."""
    return {"name": "RenewInstance", "arguments": {"InstanceId": API, "Period": months, "PeriodUnit": "Month"}}


@dataclass(frozen=True)
class Said:
    """A turn: what is asked, what the answer says, from which document it is, which tool it takes."""

    task: str
    answer: str
    document: str = ""
    tool: str = ""


# What is found before the person's own words, which are the last line, begins its lines with a mark.
RULES: list[dict[str, object]] = [
    {"role": "user", "match": r"(?:^|\n)\[1\] [^\n]+\n> (?P<said>[^\n]+)\n.*[?？]\Z", "say": "{said}"},
    {"role": "user", "match": r"(tell me the time|几点)[^\n]*\Z", "call": [{"name": "current_time", "arguments": {}}]},
    {"role": "user", "match": r"list the instances[^\n]*\Z", "call": [{"name": "DescribeInstances", "arguments": {}}]},
    {"role": "user", "match": rf"renew {API} for 1 month\Z", "call": [renewal(1)]},
    {"role": "user", "match": rf"续费 ECS 实例 {API}，时长 2 个月\Z", "call": [renewal(2)]},
    {"role": "user", "match": "^对话：", "say": "他们谈了机房和流量。"},
    {"role": "user", "match": "^Conversation:", "say": "They talked of the shop."},
    {"role": "tool", "asked": r"[一-鿿][^\n]*\Z", "match": ".*", "say": "好了：{0}"},
    {"role": "tool", "match": ".*", "say": "Done: {0}"},
    {"role": "user", "match": r"[一-鿿][^\n]*\Z", "say": "记下了。"},
    {"role": "user", "match": ".*", "say": "Noted."},
]

TURNS = (
    Said("hello", "Noted."),
    Said(TOLD, "Noted."),
    Said("您好，我是运维组的小王。", "记下了。"),
    Said("How long do refunds of subscription servers take?", "Refunds of subscription servers", "refunds.md"),
    Said("电子发票在付款成功后什么时候开具？", "电子发票在付款成功后", "发票.md"),
    Said("tell me the time", "Done: It is ", tool="current_time"),
    Said("现在几点", "好了：It is ", tool="current_time"),
    Said("list the instances", "Done: ", tool="DescribeInstances"),
    Said(RENEW, "Done: ", tool="RenewInstance"),
    Said("thank you", "Noted."),
    Said("谢谢您", "记下了。"),
    Said("For how many days are snapshots of the system disk kept?", "Snapshots of the system disk", "backups.md"),
    Said(REFUSED, "好了："),
    *(Said(text, "Noted.") for text in ("our team has nine members", "the shop sells tea and cups", "traffic doubles in June")),
    *(Said(text, "记下了。") for text in ("我们下周要搬机房", "新机房在杭州", "老机房年底关闭")),
    Said("tell me the time once more", "Done: It is ", tool="current_time"),
    Said("电子发票可以在哪里下载，付款成功后？", "电子发票在付款成功后", "发票.md"),
    *(Said(text, "Noted.") for text in ("the budget is approved", "Mei takes over on Friday", "please keep it short")),
    *(Said(text, "记下了。") for text in ("这个月流量很大", "客户反馈不错", "下个月再看")),
    Said("How long do refunds of servers take after the request?", "Refunds of subscription servers", "refunds.md"),
    Said("list the instances again", "Done: ", tool="DescribeInstances"),
    Said("Again: the purchase order of our web shop, what was its number", "Noted."),
)


async def decide(client: Client, run: RunId, approval: object, task: str) -> None:
    """The person allows the renewal that was asked for in English, and refuses the other."""
    if task == REFUSED:
        await client.refuse(run, approval, reason="too dear")  # type: ignore[arg-type]
    else:
        await client.approve(run, approval)  # type: ignore[arg-type]


async def take(client: Client, agent: AgentSpec, talk: str, said: Said) -> tuple[Update, list[Stored]]:
    run = (await client.ask(said.task, agent=agent, conversation=talk)).run
    ended = await see_through(client, run, lambda run, approval: decide(client, run, approval, said.task))
    assert isinstance(ended.stored.fact.body, RunCompleted), (said.task, ended.stored.fact.body)
    return ended, await client.log.read(run)


def of_kind(facts: list[Stored], kind: type) -> list[object]:
    return [stored.fact.body for stored in facts if isinstance(stored.fact.body, kind)]


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    yield from for_the_session(RULES)


async def test_thirty_turns_over_documents_and_tools(stack: LocalStack) -> None:
    talk, collection = f"c-{secrets.token_hex(6)}", f"team-{secrets.token_hex(6)}"
    agent = AgentSpec(
        name="ops", tools=("RenewInstance", "DescribeInstances", "current_time"), tool_k=0, knowledge_k=1,
        collections=(collection,), recall=Recall(similar=2), budget=Budget(history_tokens=HISTORY_TOKENS),
    )  # fmt: skip
    assert len(TURNS) == 30
    before = await stack.effects(API)
    async with stack.session(user="wang") as (client, _):
        for source, (title, text) in DOCUMENTS.items():
            document = AddDocument(collection=collection, source=source, title=title, text=text).model_dump_json().encode()
            await persist(lambda: client.bus.ask(subjects.question("retrieval", "add_document"), document, 10.0))  # noqa: B023
        runs: list[list[Stored]] = []
        for said in TURNS:
            ended, facts = await take(client, agent, talk, said)
            runs.append(facts)
            assert said.answer in (ended.state.answer or ""), (said.task, ended.state.answer)
            check(said, facts)

    effects = (await stack.effects(API))[len(before) :]
    assert [effect["action"] for effect in effects] == ["RenewInstance"], "the refused renewal did not happen, the other once"
    assert all(replay(facts[0].fact.run, facts).same for facts in runs)
    check_memory(runs)


def check(said: Said, facts: list[Stored]) -> None:
    """The right document with its place, the right tool, and the person's word for what changes something."""
    (found,) = of_kind(facts, KnowledgeRetrieved)
    assert isinstance(found, KnowledgeRetrieved)
    if said.document:
        (passage,) = found.passages
        assert passage.source == said.document
        assert DOCUMENTS[said.document][1][passage.start : passage.end] == passage.text
    (selected,) = of_kind(facts, ToolsSelected)
    assert isinstance(selected, ToolsSelected)
    assert [each.card.name for each in selected.tools] == ["RenewInstance", "DescribeInstances", "current_time"]
    called = [each.command.call.name for each in of_kind(facts, ToolReturned) if isinstance(each, ToolReturned)]
    assert called == ([said.tool] if said.tool else [])
    assert bool(of_kind(facts, ApprovalGranted)) == (said.task == RENEW)
    assert bool(of_kind(facts, ApprovalRefused)) == (said.task == REFUSED)


def check_memory(runs: list[list[Stored]]) -> None:
    """The last turn has the newest turns whole, an early one because it is near, and what lies between in short."""
    (recalled,) = of_kind(runs[-1], MemoryRecalled)
    assert isinstance(recalled, MemoryRecalled)
    order = [facts[0].fact.run for facts in runs]
    history = [turn.run for turn in recalled.history]
    assert history == order[-1 - len(history) : -1] and 3 <= len(history) < 29
    assert TOLD in [turn.task for turn in recalled.similar]
    assert recalled.summary is not None and recalled.summary.upto in order
    written = [sum(len(stored.fact.body.model_dump_json()) for stored in facts) for facts in runs]
    chats = [size for said, size in zip(TURNS, written, strict=True) if not (said.tool or said.document)]
    assert max(chats[-4:]) < 2.5 * max(chats[4:8]), "what a turn stores does not grow with the conversation"
