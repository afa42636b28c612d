"""A run on a remote model: a wrong call goes back to it, the right one is made, and another model answers when it is gone."""

from __future__ import annotations

from runtime.client import Client
from runtime.clock import SystemClock
from runtime.conductor import Conductor
from runtime.memory_broker import MemoryBroker
from runtime.service import Worker
from schemas.agent import AgentSpec
from schemas.errors import MilepostError
from schemas.events import Generated, RunCompleted
from services.llm.model import TextModel
from services.llm.models import Models
from services.llm.openai_model import Endpoint, OpenAIModel
from services.llm.scripted import Script, ScriptedModel
from services.llm.service import llm_service
from services.memory.memory_store import MemoryConversationStore
from services.memory.service import memory_service
from services.retrieval.embedder import HashEmbedder
from services.retrieval.knowledge import Knowledge
from services.retrieval.memory_knowledge_index import MemoryKnowledgeIndex
from services.retrieval.memory_tool_index import MemoryToolIndex
from services.retrieval.selection import Selection
from services.retrieval.service import retrieval_service
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.service import Toolbox
from tests.support.openai_server import _chunk, serving
from tests.support.simulation import working
from tests.support.stack import see_through
from tool_adapters.python import tool

AGENT = AgentSpec(model="remote", fallback=("local",), tools=("add",), tool_k=0, knowledge_k=0)


@tool
def add(one: int, other: int) -> int:
    """Adds two numbers."""
    return one + other


def calling(arguments: str) -> list[dict[str, object] | str]:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "add", "arguments": arguments}}
    return [_chunk({"tool_calls": [call]}), _chunk({}, finish="tool_calls"), "data: [DONE]\n\n"]


async def test_a_remote_model_is_corrected_then_obeyed_then_replaced() -> None:
    broker, clock = MemoryBroker(), SystemClock()
    toolbox = Toolbox([add], MemoryEffectLedger(), clock, lane="test")
    embedder = HashEmbedder()
    selection = Selection(MemoryToolIndex(), embedder)
    knowledge = Knowledge(MemoryKnowledgeIndex(), embedder, clock)
    local = ScriptedModel(Script.model_validate({"rules": [{"role": "tool", "match": r"(\d+)", "say": "It is {1}."}]}))
    async with serving(None) as server:

        async def bring(name: str) -> TextModel:
            if name == "remote":
                return OpenAIModel(name, Endpoint(server.url, "served", retries=0))
            if name == "local":
                return local
            raise MilepostError(f"There is no model {name!r}.")

        services = [
            toolbox.service(),
            retrieval_service(selection, knowledge, embedder),
            memory_service(MemoryConversationStore(), clock),
            llm_service(Models("remote", bring), clock),
        ]
        server.raw = [calling('{"one": 19, "other": "twenty-three"}'), calling('{"one": 19, "other": 23}')]
        server.statuses = []
        workers = [Worker(service, broker, broker, clock, name="w").run(drain_s=0.1) for service in services]
        await toolbox.register(broker)
        async with working(Conductor(broker, broker, clock, name="c").run(), selection.follow_cards(broker), *workers):
            client = Client(broker, broker, clock)
            asked = await client.ask("19 and 23?", agent=AGENT)
            async for update in client.follow(asked.run):
                said = update.stored.fact.body
                if isinstance(said, Generated) and said.generation.calls:
                    server.statuses = [503]  # from now on it is away
            ended = await see_through(client, asked.run, limit_s=20.0)
            generated = [each.fact.body for each in await broker.read(asked.run) if isinstance(each.fact.body, Generated)]
    assert isinstance(ended.stored.fact.body, RunCompleted)
    assert ended.stored.fact.body.answer == "It is 42."
    wrong, right, answer = (each.generation for each in generated)
    assert "is not of type 'integer'" in wrong.malformed and not wrong.calls
    assert right.calls[0].arguments == {"one": 19, "other": 23} and right.model == "remote"
    assert answer.model == "scripted" and answer.tried[0].startswith("remote: ") and "503" in answer.tried[0]
    correction = server.requests[1]["messages"][-1]  # type: ignore[index]
    assert "is not of type 'integer'" in correction["content"]
