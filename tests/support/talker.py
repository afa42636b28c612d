"""Somebody who talks through the door: begins turns, hears them, decides what they ask."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.gateway.principal import DoorRole
from tests.support.gateways import door_of, key_of
from tests.support.stack import LocalStack

RENEW = "Renew i-bp1c3n6v8z2w5api01 for {n} months"


@dataclass
class Heard:
    """What a stream of a turn told: the turn as a page puts it together, its texts, and the names of the events."""

    turns: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def add(self, name: str, said: dict[str, Any]) -> None:
        self.names.append(name)
        if name == "text":
            self.texts[said["step"]] = self.texts.get(said["step"], "")[: said["offset"]] + said["text"]
        elif name == "turn":
            before = self.turns.setdefault(said["run"], {"items": []})
            items = [*before["items"][: said.get("after", 0)], *said["items"]] if "items" in said else before["items"]
            before.update(said, items=items)


class Talker:
    """Somebody at the door."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def ask(self, task: str, conversation: str | None = None, **more: object) -> tuple[str, str]:
        id = conversation or f"c-{secrets.token_hex(8)}"
        said = await self.http.post(f"/api/conversations/{id}/turns", json={"task": task, **more})
        assert said.status_code == 200, said.text
        return said.json()["run"], id

    async def hear(self, run: str, until: Callable[[dict[str, Any]], object] | None = None, limit_s: float = 60.0) -> Heard:
        """The stream of a turn to its end, or until something holds of it."""
        heard = Heard()
        async with asyncio.timeout(limit_s), self.http.stream("GET", f"/api/conversations/turns/{run}/stream") as stream:
            assert stream.status_code == 200, await stream.aread()
            assert stream.headers["content-type"].startswith("text/event-stream")
            name = ""
            async for line in stream.aiter_lines():
                if line.startswith("event:"):
                    name = line[6:].strip()
                elif line.startswith("data:"):
                    heard.add(name, json.loads(line[5:]))
                    if until and run in heard.turns and until(heard.turns[run]):
                        return heard
        return heard

    async def told(self, task: str, conversation: str | None = None, **more: object) -> tuple[dict[str, Any], str]:
        """A turn to its end."""
        run, id = await self.ask(task, conversation, **more)
        return (await self.hear(run)).turns[run], id

    async def waiting(self, task: str, conversation: str | None = None) -> tuple[dict[str, Any], str]:
        """A turn up to its approval."""
        run, id = await self.ask(task, conversation)
        heard = await self.hear(run, lambda turn: turn.get("approvals"))
        return heard.turns[run]["approvals"][0], id

    async def decide(self, approval: dict[str, Any], decision: str, **more: str) -> httpx.Response:
        return await self.http.post(f"/api/approvals/{approval['run']}/{approval['id']}", json={"decision": decision, **more})

    async def get(self, path: str, holds: Callable[[Any], object] = bool, limit_s: float = 20.0) -> Any:
        """What stands there, as soon as something holds of it: lists come from the index, a moment after the log."""
        async with asyncio.timeout(limit_s):
            while True:
                said = await self.http.get(path)
                assert said.status_code == 200, said.text
                if holds(found := said.json()):
                    return found
                await asyncio.sleep(0.05)


@asynccontextmanager
async def talker(
    stack: LocalStack, *roles: DoorRole, user: str = "kim", tenant: str = "default"
) -> AsyncIterator[Talker]:  # fmt: skip
    """Somebody with a key of their own."""
    headers = {"authorization": f"Bearer {await key_of(stack, *roles, user=user, tenant=tenant)}"}
    async with httpx.AsyncClient(base_url=door_of(stack), headers=headers, trust_env=False, timeout=30.0) as http:
        yield Talker(http)
