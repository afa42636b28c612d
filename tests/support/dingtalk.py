"""DingTalk as a robot sees it: posts what people write, signed, and takes what is said in its chats."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web

from infra.gateway.address import remembered
from infra.gateway.door_secret import door_seed
from infra.gateway.triggers import BASE
from services.gateway.channels.dingtalk import sign
from tests.support.stack import LocalStack, for_the_session

SECRET, ROBOT_SECRET, ROBOT_TOKEN = "app-secret", "SECrobot", "robot-token"
SECRETS = {
    "MILEPOST_SECRET_DEFAULT__DINGTALK": SECRET, "MILEPOST_SECRET_DEFAULT__ROBOT": ROBOT_SECRET,
    "MILEPOST_SECRET_DEFAULT__ROBOT_TOKEN": ROBOT_TOKEN,
}  # fmt: skip


@dataclass
class HookedStack:
    """A stack with two gateways that triggers and chats reach. base: where its messenger is to be."""

    stack: LocalStack
    base: str

    @property
    def url(self) -> str:
        found = remembered(self.stack.home)
        assert found is not None
        return found

    @asynccontextmanager
    async def door(self) -> AsyncIterator[httpx.AsyncClient]:
        """Signed in as the one who runs it."""
        headers = {"authorization": f"Bearer {door_seed(self.stack.loaded.settings).local_key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=30) as http:
            yield http


@pytest.fixture(scope="session")
def hooked_stack() -> Iterator[HookedStack]:
    """The session's stack with gateways."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        base = f"http://127.0.0.1:{free.getsockname()[1]}"
    before = dict(os.environ)
    os.environ.update({BASE: base, **SECRETS})
    try:
        for stack in for_the_session(services__gateway=2):
            yield HookedStack(stack, base)
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass
class DingTalkServer:
    """said: what the robot said in chats, as (session, body); told: what the group's robot was told, with its query."""

    hooked: HookedStack
    said: asyncio.Queue[tuple[str, dict[str, Any]]] = field(default_factory=asyncio.Queue)
    told: asyncio.Queue[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=asyncio.Queue)

    async def take(self, request: web.Request) -> web.Response:
        """A message of the robot, to a session or to a group."""
        body = await request.json()
        if request.path == "/robot/sendBySession":
            self.said.put_nowait((request.query["session"], body))
        else:
            self.told.put_nowait((dict(request.query), body))
        return web.json_response({"errcode": 0, "errmsg": "ok"})

    async def write(
        self,
        person: str,
        text: str,
        *,
        chat: str = "cid-1",
        group: bool = False,
        id: str = "",
        secret: str = SECRET,
        **more: Any,
    ) -> httpx.Response:
        """Somebody writes to the robot; gives what the robot's address answered."""
        now = datetime.now(UTC)
        said = {
            "msgtype": "text", "text": {"content": f" {text}"}, "msgId": id or f"msg-{secrets.token_hex(8)}",
            "conversationId": chat, "conversationType": "2" if group else "1", "senderStaffId": person, "senderNick": person,
            "senderId": f"$:LWCP_v1:${person}", "createAt": int(now.timestamp() * 1000), "isInAtList": group,
            "sessionWebhook": f"{self.hooked.base}/robot/sendBySession?session={chat}",
            "sessionWebhookExpiredTime": int((now + timedelta(hours=1)).timestamp() * 1000), **more,
        }  # fmt: skip
        stamp = str(int(now.timestamp() * 1000))
        headers = {"timestamp": stamp, "sign": sign(secret, stamp), "content-type": "application/json; charset=utf-8"}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            return await http.post(f"{self.hooked.url}/channels/default/dingtalk", content=json.dumps(said), headers=headers)

    async def heard(self, limit_s: float = 30.0) -> str:
        """The next thing the robot says in a chat."""
        _, body = await asyncio.wait_for(self.said.get(), limit_s)
        assert body["msgtype"] == "markdown"
        return str(body["markdown"]["text"])


@asynccontextmanager
async def dingtalk(hooked: HookedStack) -> AsyncIterator[DingTalkServer]:
    """DingTalk, where the stack thinks it is."""
    server = DingTalkServer(hooked)
    app = web.Application()
    app.router.add_post("/robot/{what}", server.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(hooked.base.rpartition(":")[2])).start()
    try:
        yield server
    finally:
        await runner.cleanup()
