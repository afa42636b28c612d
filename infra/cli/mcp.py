"""`milepost mcp serve`: our tools and agents for any MCP client."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.mcp_server import Front
    from infra.wiring import World

TOKEN_CHARACTERS = 16

mcp = typer.Typer(no_args_is_help=True, help="Offer tools and agents to MCP clients.")


class NotSafe(MilepostError):
    """It would be open to whoever can reach this machine."""


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    mcp.command()(serve)
    app.add_typer(mcp, name="mcp")


@mcp.callback()
def _group() -> None:
    """Offer tools and agents to MCP clients."""


def serve(
    http: Annotated[str, typer.Option(help="HOST:PORT to serve on, at /mcp.", show_default="standard input and output")] = "",
    tools: Annotated[list[str] | None, typer.Option(help="Which tools, by shell pattern.", show_default="all")] = None,
    agents: Annotated[list[Path] | None, typer.Option(help="An agent's file; repeatable.", show_default=False)] = None,
    user: Annotated[str, typer.Option(help="For whom its runs are.", show_default="yours")] = "",
    token_from: Annotated[str, typer.Option(help="env:NAME or file:PATH of the token to ask for.", show_default=False)] = "",
    approvals: Annotated[bool, typer.Option(help="Whether clients may ask their person to approve.")] = True,
    home: Home = None,
) -> None:  # fmt: skip
    """Serve until the client leaves, or ctrl-C. Each call is a run: milepost runs ls shows it."""
    import asyncio

    from infra import logs
    from infra.cli.agents import agent_from
    from infra.cli.options import settings_from
    from infra.session import session
    from tool_adapters.mcp.settings import require_sdk

    require_sdk()
    host, port = _place(http) if http else ("", 0)
    token = _token(token_from)
    if http and not _is_loopback(host) and token is None:
        raise NotSafe(
            f"{host} can be reached from elsewhere.", why="without a token anybody could call the tools",
            hint="serve on 127.0.0.1, or give --token-from env:NAME",
        )  # fmt: skip
    specs = [agent_from(file) for file in agents or ()]
    settings = settings_from(home).settings
    logs.configure("mcp", level="warning")

    async def run() -> None:
        async with session(settings, user=user or None) as (client, world):
            from infra.mcp_catalogue import BusCatalogue, loader
            from infra.mcp_http import serve_http
            from infra.mcp_server import Front

            patterns = tools if tools is not None else ([] if specs else ["*"])
            catalogue, load = BusCatalogue(world.bus, settings.tenant), loader(world, settings.tenant)
            front = Front(client, catalogue, load, tools=patterns, agents=specs, approvals=approvals)
            async with calls_made(world):
                await (serve_http(front.server(), host, port, token) if http else _serve_stdio(front))

    asyncio.run(run())


@asynccontextmanager
async def calls_made(world: World) -> AsyncIterator[None]:
    """While it is open, this process hosts the model that makes the calls which clients ask for."""
    import asyncio

    from runtime.service import Worker
    from services.llm.caller import NAME, CallerModel
    from services.llm.models import Models
    from services.llm.service import llm_service

    service = llm_service(Models.of(CallerModel()), world.clock, at_once=64, lane=NAME)
    ready = asyncio.Event()
    working = asyncio.create_task(Worker(service, world.log, world.bus, world.clock, name=world.name).run(ready, drain_s=2.0))
    try:
        await ready.wait()
        yield
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _serve_stdio(front: Front) -> None:
    from mcp.server.stdio import stdio_server

    server = front.server()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def _place(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise typer.BadParameter(f"{text!r} is not HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(reference: str) -> str | None:
    if not reference:
        return None
    from tool_adapters.references import found

    token = found(reference)
    if len(token) < TOKEN_CHARACTERS:
        raise NotSafe("The token is too short.", why=f"it has fewer than {TOKEN_CHARACTERS} characters")
    return token
