"""What all parts of the bench share: one stack with a scripted model, a client on its bus, the address of its door."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.gateway.address import remembered
from infra.gateway.door_secret import door_seed
from infra.wiring import World
from runtime.client import Client
from schemas.agent import AgentSpec, Recall
from schemas.canonical import JsonObject
from tests.bench.door.wire import Wire, wired
from tests.support.builders import TENANT
from tests.support.stack import LocalStack, local_stack

PLAIN = AgentSpec(name="model", tool_k=0, knowledge_k=0, recall=Recall(similar=0, facts=0, summary=False))
WORDS = "word " * 60
CALL = {"name": "look", "arguments": {}}
RULES: list[dict[str, object]] = [
    {"role": "user", "match": "wait", "call": [CALL]}, {"role": "user", "match": ".*", "say": f"So: {WORDS}"},
]  # fmt: skip


@dataclass(slots=True)
class Bench:
    """figures: what was measured so far."""

    stack: LocalStack
    client: Client
    world: World
    url: str
    key: str
    requests: int
    figures: dict[str, float | None] = field(default_factory=dict)

    @property
    def gateway(self) -> psutil.Process:
        return psutil.Process(self.stack.member("gateway").pid)

    @property
    def cpu_s(self) -> float:
        """CPU time that the gateway has used."""
        times = self.gateway.cpu_times()
        return times.user + times.system

    @property
    def body(self) -> JsonObject:
        """A chat completion, streamed."""
        model = self.stack.loaded.settings.model.name
        return {"model": model, "stream": True, "messages": [{"role": "user", "content": "hello"}]}

    def wire(self) -> AbstractAsyncContextManager[Wire]:
        return wired(self.url, self.key)


@asynccontextmanager
async def opened(requests: int) -> AsyncIterator[Bench]:
    """The tenant is that of the runs that tests build."""
    async with AsyncExitStack() as until_the_end:
        home = Path(until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="mp-")))
        home.chmod(0o711)
        flags = {"services__gateway": 1, "door__per_minute": 10_000_000, "door__streams": 10_000, "tenant": TENANT}
        stack = await until_the_end.enter_async_context(local_stack(home, RULES, **flags))
        client, world = await until_the_end.enter_async_context(stack.session())
        url, key = remembered(stack.home), door_seed(stack.loaded.settings).local_key
        assert url is not None
        yield Bench(stack, client, world, url, key, requests)
