"""MCP at the door: the same server as `milepost mcp serve`, for whoever signs in, each as themselves.

A session, and what a client carries for us between two requests, is of the principal who began it and of nobody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from importlib.util import find_spec
from typing import TYPE_CHECKING

from starlette.requests import Request

from infra.wiring import World
from schemas.agent import AgentSpec
from schemas.errors import MilepostError
from services.gateway.agents.agent import ASSISTANT
from services.gateway.answers import answer, status_of
from services.gateway.door import principal_of
from services.gateway.gateway import Gateway
from services.gateway.principal import Principal

if TYPE_CHECKING:
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from starlette.types import Receive, Scope, Send

    from infra.mcp_server import Front
    from infra.mcp_server import Request as Asked

PATH = "/mcp"
FRONTS = 1000
"""Principals whose calls that wait for a terminal are remembered."""
_WHO = "milepost.principal"


def mcp_mounts(gateway: Gateway, world: World) -> dict[str, McpMount]:
    """The application at its path; none where the package mcp is not installed."""
    return {PATH: McpMount(gateway, world)} if find_spec("mcp") else {}


class McpMount:
    """An ASGI application that lets in who may ask; approvals by elicitation are for who may approve."""

    def __init__(self, gateway: Gateway, world: World) -> None:
        from mcp.server.request_state import RequestStateSecurity
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from infra.mcp_server import STATE_S, server_of

        key = hmac.new(gateway.seed.secret, b"milepost door mcp", hashlib.sha256).digest()  # every copy has the same
        security = RequestStateSecurity(keys=[key], ttl=STATE_S, bind_principal=lambda context: _name(_who(context)))
        self._gateway, self._world = gateway, world
        self._fronts: OrderedDict[str, Front] = OrderedDict()
        self._sessions = StreamableHTTPSessionManager(server_of(self._front, security))
        self._running = asyncio.Event()

    async def run(self) -> None:
        """Keep sessions until cancelled."""
        async with self._sessions.run():
            self._running.set()
            await asyncio.Event().wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            who = await principal_of(request)
            who.must("ask")
        except MilepostError as error:
            refused = answer(request, status_of(error), type(error).__name__, error.what, error.why, error.hint, error)
            await refused(scope, receive, send)
            return
        await self._running.wait()
        await self._sessions.handle_request({**scope, "user": _user(who), _WHO: who}, receive, send)

    async def _front(self, context: Asked) -> Front:
        """What this principal finds here: the tools and the published agents of the tenant."""
        from infra.mcp_catalogue import BusCatalogue, loader
        from infra.mcp_server import Front

        who = _who(context)
        name, gateway = _name(who), self._gateway
        front = self._fronts.pop(name, None)
        if front is None:
            catalogue, load = BusCatalogue(gateway.bus, who.tenant), loader(self._world, who.tenant)
            front = Front(gateway.client(who), catalogue, load, approvals="approve" in who.rights)
        self._fronts[name] = front
        while len(self._fronts) > FRONTS:
            self._fronts.popitem(last=False)
        front.offer(await _agents(gateway, who.tenant))
        return front


async def _agents(gateway: Gateway, tenant: str) -> list[AgentSpec]:
    """The tenant's published agents under their names, and the assistant."""
    served = {agent.name: agent.spec.model_copy(update={"name": agent.name}) for agent in await gateway.agents.serving(tenant)}
    return [*({ASSISTANT: AgentSpec()} | served).values()]


def _user(who: Principal) -> AuthenticatedUser:
    """Whose sessions these are, as the SDK compares it."""
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken

    return AuthenticatedUser(AccessToken(token="", client_id=_name(who), scopes=[*who.rights], subject=who.user))


def _who(context: Asked) -> Principal:
    """The principal of a request: every message of a session came in by the door."""
    request = context.request
    who = request.scope.get(_WHO) if isinstance(request, Request) else None
    if not isinstance(who, Principal):
        raise MilepostError("This request did not come in by the door.")
    return who


def _name(who: Principal) -> str:
    """A principal in one word; other rights are another one."""
    return " ".join((who.tenant, who.user, who.via, who.key, *sorted(who.roles)))
