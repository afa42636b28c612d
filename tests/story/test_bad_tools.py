"""Tools that raise, hang, flood or say nonsense: the run goes on and the model is told, in whole runs on the memory broker."""

from __future__ import annotations

import asyncio
import math

import pytest

from runtime.client import Client
from runtime.clock import SystemClock
from runtime.conductor import Conductor
from runtime.memory_broker import MemoryBroker
from runtime.service import Worker
from schemas.agent import AgentSpec
from schemas.events import RunCompleted, ToolFailed, ToolInDoubt
from services.llm.models import Models
from services.llm.scripted import Script, ScriptedModel
from services.llm.service import llm_service
from services.memory.memory_store import MemoryConversationStore
from services.memory.service import memory_service
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


@tool
def raising() -> str:
    """Raises."""
    raise RuntimeError("the disk of the tool is on fire")


@tool(timeout_s=0.2)
async def hanging() -> str:
    """Never answers."""
    await asyncio.Event().wait()
    return "never"


@tool
def flooding() -> str:
    """Returns 10 MB."""
    return "x" * 10_000_000


@tool
def nonsense() -> object:
    """Returns what is no JSON."""
    return {"value": math.nan, "thing": object()}


@tool(effect="write")
def breaking() -> str:
    """Changes the world, or not, and raises."""
    raise RuntimeError("cut off in the middle")


@pytest.mark.parametrize(
    ("bad", "event", "told"),
    [
        (raising, ToolFailed, "the disk of the tool is on fire"),
        (hanging, ToolFailed, "did not answer in"),
        (flooding, ToolFailed, "the limit is"),
        (nonsense, ToolFailed, "no JSON"),
        (breaking, ToolInDoubt, "It is not known whether this happened"),
    ],
)
async def test_a_bad_tool_does_not_end_the_run(bad: Tool, event: type[ToolFailed | ToolInDoubt], told: str) -> None:
    broker, clock, name = MemoryBroker(), SystemClock(), bad.card.name
    toolbox = Toolbox([bad], MemoryEffectLedger(), clock, lane="test")
    embedder = HashEmbedder()
    selection = Selection(MemoryToolIndex(), embedder)
    knowledge = Knowledge(MemoryKnowledgeIndex(), embedder, clock)
    call = {"role": "user", "call": [{"name": name, "arguments": {}}]}
    model = ScriptedModel(Script.model_validate({"rules": [call, {"role": "tool", "match": ".*", "say": "It said: {0}"}]}))
    services = [
        toolbox.service(),
        retrieval_service(selection, knowledge, embedder),
        memory_service(MemoryConversationStore(), clock),
        llm_service(Models.of(model), clock),
        policy_service(MemoryPolicyStore(), clock),
    ]
    workers = [Worker(service, broker, broker, clock, name="w").run(drain_s=0.1) for service in services]
    await toolbox.register(broker)
    async with working(Conductor(broker, broker, clock, name="c").run(), selection.follow_cards(broker), *workers):
        client = Client(broker, broker, clock)
        asked = await client.ask("use it", agent=AgentSpec(tools=(name,), tool_k=0, knowledge_k=0))
        ended = await see_through(client, asked.run, limit_s=20.0)
        bodies = [stored.fact.body for stored in await broker.read(asked.run)]
    assert isinstance(ended.stored.fact.body, RunCompleted)
    assert told in ended.stored.fact.body.answer
    assert [type(body) for body in bodies if isinstance(body, ToolFailed | ToolInDoubt)] == [event]
