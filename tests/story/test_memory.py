"""A long conversation in two languages: what is remembered of it sixty turns later. Whole runs on the memory broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from runtime.client import Client, Update
from runtime.clock import SystemClock
from runtime.conductor import Conductor
from runtime.log import Stored
from runtime.memory_broker import MemoryBroker
from runtime.replay import replay
from runtime.service import Worker
from schemas.agent import AgentSpec, Budget, Recall
from schemas.events import MemoryRecalled, RunCompleted, RunRequested
from schemas.ids import RunId
from schemas.tools import Part, ToolResult
from services.llm.models import Models
from services.llm.scripted import Script, ScriptedModel
from services.llm.service import llm_service
from services.memory.memory_store import MemoryConversationStore
from services.memory.over_the_bus import asking, embedding
from services.memory.questions import Questions
from services.memory.remember import LANE, RememberTool
from services.memory.service import memory_service
from services.memory.upkeep import Upkeep
from services.policy.memory_store import MemoryPolicyStore
from services.policy.service import policy_service
from services.retrieval.embedder import HashEmbedder
from services.retrieval.knowledge import Knowledge
from services.retrieval.memory_knowledge_index import MemoryKnowledgeIndex
from services.retrieval.memory_tool_index import MemoryToolIndex
from services.retrieval.selection import Selection
from services.retrieval.service import retrieval_service
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.service import Toolbox
from tests.support.simulation import working
from tests.support.stack import see_through
from tool_adapters.python import tool
from tool_adapters.tool import Tool

TALKER = AgentSpec(
    name="talker", tool_k=0, knowledge_k=0, recall=Recall(similar=2), budget=Budget(history_tokens=400),
)  # fmt: skip

RULES: list[dict[str, object]] = [
    {"role": "user", "match": "^对话：", "say": "摘要：用户妹妹叫小雨。"},
    {"role": "user", "match": "^Conversation:", "say": "In short: Ann ordered tea."},
    {"role": "user", "match": "write a story", "call": [{"name": "write_story", "arguments": {}}]},
    {
        "role": "user",
        "match": "remember my city",
        "call": [{"name": "remember", "arguments": {"key": "city", "text": "Hangzhou"}}],
    },
    {"role": "tool", "match": ".*", "say": "Done."},
    {"role": "user", "match": "[一-鿿]", "say": "好的，我记住了，谢谢您告诉我这件事。"},
    {"role": "user", "match": ".*", "say": "Very well, that is noted and I will keep it in mind for later."},
]


@tool
def write_story() -> ToolResult:
    """Writes a story into a file."""
    return ToolResult(text="A story of a tea shop.", parts=(Part(kind="file", ref="obj/story", media_type="text/plain"),))


@dataclass
class Town:
    """Everything that runs, and one client of it."""

    broker: MemoryBroker = field(default_factory=MemoryBroker)
    clock: SystemClock = field(default_factory=SystemClock)
    store: MemoryConversationStore = field(default_factory=MemoryConversationStore)

    @asynccontextmanager
    async def open(self, *, vectors: bool = True) -> AsyncIterator[Client]:
        broker, clock, embedder = self.broker, self.clock, HashEmbedder()
        selection = Selection(MemoryToolIndex(), embedder)
        embed = embedding(broker)
        upkeep = Upkeep(self.store, clock, embed=embed, ask=asking(broker, broker, clock))
        questions = Questions(self.store, self.store, clock, embed)
        tools: list[Tool] = [RememberTool(self.store, clock)]
        boxes = [Toolbox(tools, MemoryEffectLedger(), clock, lane=LANE)]
        boxes.append(Toolbox([write_story], MemoryEffectLedger(), clock, lane="test"))
        model = ScriptedModel(Script.model_validate({"rules": RULES}))
        retrieval = retrieval_service(selection, Knowledge(MemoryKnowledgeIndex(), embedder, clock), embedder)
        if not vectors:
            del retrieval.answers["embed"]
        services = [
            retrieval, *(box.service() for box in boxes), llm_service(Models.of(model), clock),
            memory_service(self.store, clock, embed=embed, upkeep=upkeep, questions=questions),
            policy_service(MemoryPolicyStore(), clock),
        ]  # fmt: skip
        workers = [Worker(service, broker, broker, clock, name="w").run(drain_s=0.1) for service in services]
        for box in boxes:
            await box.register(broker)
        conductor = Conductor(broker, broker, clock, name="c").run()
        async with working(conductor, selection.follow_cards(broker), upkeep.run(), *workers):
            yield Client(broker, broker, clock, user="ann")


async def say(client: Client, task: str, agent: AgentSpec = TALKER, talk: str = "talk") -> Update:
    ended = await see_through(client, (await client.ask(task, agent=agent, conversation=talk)).run, limit_s=20.0)
    assert isinstance(ended.stored.fact.body, RunCompleted), ended.stored.fact.body
    return ended


async def recalled(client: Client, run: str) -> MemoryRecalled:
    facts: list[Stored] = await client.log.read(RunId(run))
    (event,) = [stored.fact.body for stored in facts if isinstance(stored.fact.body, MemoryRecalled)]
    return event


TOLD = {
    3: "My order of green tea has the number ZX-7741.",
    10: "我妹妹叫小雨，她在成都上大学。",
}


@pytest.mark.parametrize("vectors", [True, False])
async def test_sixty_turns_later_what_mattered_is_still_known(vectors: bool) -> None:
    town = Town()
    async with town.open(vectors=vectors) as client:
        for number in range(60):
            await say(client, TOLD.get(number, f"Thing number {number} of this long talk, 第 {number} 件事, is what it is."))
        await client.bus.ask("mp.svc.memory.remember", b'{"user": "ann", "key": "name", "text": "Ann"}', 5.0)
        english = await recalled(client, (await say(client, "What was ZX-7741, my order number?")).state.run)
        chinese = await recalled(client, (await say(client, "我妹妹小雨在哪里上大学？")).state.run)
        summarising = [
            stored for stored in town.broker._stored
            if isinstance(stored.fact.body, RunRequested) and stored.fact.body.agent.name == "summariser"
        ]  # fmt: skip
        assert english.summary is not None
        written = await client.log.read(RunId(english.summary.by))
    assert TOLD[3] in [turn.task for turn in english.similar]
    assert TOLD[10] in [turn.task for turn in chinese.similar]
    assert TOLD[3] not in [turn.task for turn in english.history]
    assert [fact.text for fact in english.facts] == ["Ann"]
    assert set(english.summary.text.splitlines()) <= {"In short: Ann ordered tea.", "摘要：用户妹妹叫小雨。"}
    assert 3 <= len(summarising) <= 20
    assert {stored.fact.body.user for stored in summarising if isinstance(stored.fact.body, RunRequested)} == {"ann"}
    assert replay(RunId(english.summary.by), written).same, "a summary is a run like any other"
    assert [each.conversation for each in await town.store.talks("default", None, 9)] == ["talk"], "summaries are no talks"


async def test_a_fact_that_the_model_remembers_is_told_in_another_conversation() -> None:
    town = Town()
    async with town.open() as client:
        keeper = TALKER.model_copy(update={"tools": ("remember",)})
        await say(client, "remember my city", keeper)
        later = await recalled(client, (await say(client, "which city is mine?", talk="another")).state.run)
        (fact,) = later.facts
        assert (fact.key, fact.text) == ("city", "Hangzhou")
        assert not (await recalled(client, (await say(client, "hello", talk="another")).state.run)).facts
        assert await client.log.read(RunId(fact.source)), "the fact says which run stated it"
        await client.bus.ask("mp.svc.memory.forget_fact", b'{"user": "ann", "key": "city"}', 5.0)
        await say(client, "remember my city", keeper)
        assert [each.text for each in await town.store.facts("default", "ann")] == ["Hangzhou"], "again after it was forgotten"


async def test_what_a_tool_made_can_be_used_in_a_later_turn() -> None:
    async with Town().open() as client:
        await say(client, "write a story", TALKER.model_copy(update={"tools": ("write_story",)}))
        later = await recalled(client, (await say(client, "read that story aloud")).state.run)
    ((result,),) = [turn.results for turn in later.history]
    assert (result.tool, result.kind, result.ref) == ("write_story", "file", "obj/story")
