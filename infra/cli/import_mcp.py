"""`milepost tools import mcp`: the tools of an MCP server, each pinned to what was approved."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from infra.cli.import_shown import says
from infra.cli.options import DryRun, Home, Json, Wait
from infra.cli.show import as_json, at_terminal, console, plain, print_json, print_table, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.tools import ToolCard
    from services.tools.sources import Source, Spec
    from tool_adapters.mcp.cards import Effects, Offer
    from tool_adapters.mcp.listing import ListedTool

SHOWN = 30

Pairs = list[str] | None


class NotApproved(MilepostError):
    """A server says things that a person has to look at first."""


def add_to(imports: typer.Typer) -> None:
    """Add this file's command."""
    imports.command()(mcp)


def mcp(
    command: Annotated[str, typer.Option(help='A server that is started: "npx -y SERVER ARGS".', show_default=False)] = "",
    url: Annotated[str, typer.Option(help="A server that is reached over HTTP.", show_default=False)] = "",
    header: Annotated[Pairs, typer.Option(help="Authorization=env:TOKEN; repeatable.", show_default=False)] = None,
    env: Annotated[Pairs, typer.Option(help="What it finds in its environment, NAME=env:NAME.", show_default=False)] = None,
    cwd: Annotated[str, typer.Option(help="The folder it is started in.", show_default=False)] = "",
    oauth: Annotated[Pairs, typer.Option(help="client=ID, secret=env:S, issuer=URL, scope=S.", show_default=False)] = None,
    allow: Annotated[Pairs, typer.Option(help="HOST:PORT that need not be public.", show_default=False)] = None,
    lane: Annotated[str, typer.Option(help="Its host's name.", show_default="the server's name")] = "",
    prefix: Annotated[str, typer.Option(help="What every name begins with.", show_default="the lane")] = "",
    effects: Annotated[Path | None, typer.Option(help="What its tools change (TOML or JSON).", show_default=False)] = None,
    trust_hints: Annotated[bool, typer.Option("--trust-hints", help="Believe its word that a tool only reads.")] = False,
    protocol: Annotated[str, typer.Option(help="auto, legacy (before 2026), or 2026-07-28.")] = "auto",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve what it says without being asked.")] = False,
    dry_run: DryRun = False, wait: Wait = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Import the tools of an MCP server: <prefix>_<tool>. All of them are writes unless you say which only read."""
    from infra.cli.tools_import import new_source, run_import
    from tool_adapters.mcp.cards import Effects, effects_of
    from tool_adapters.mcp.settings import settings_of

    use_json(json)
    program, *args = shlex.split(command) or [""]
    said = effects_of(_read(effects)) if effects else Effects()
    settings: dict[str, object] = {
        "command": program, "args": args, "url": url, "headers": _pairs(header), "env": _pairs(env), "allow": allow or [],
        "protocol": protocol,
        **({"cwd": cwd} if cwd else {}), **_oauth(_pairs(oauth)),
    }  # fmt: skip
    settings_of(settings)
    title, tools = _listed(settings)
    lane = lane or lane_of(title)
    settings |= {
        "prefix": prefix or lane,
        "effects": said.model_copy(update={"trust_hints": trust_hints or said.trust_hints}).model_dump(mode="json"),
    }
    source = new_source("mcp", lane, settings, title, home)
    offer = offer_of(source, tools)
    if dry_run:
        _show(offer)
    else:
        _approve(offer, _compared(source, offer, home), yes)
    specs = specs_of(offer)
    run_import(source, specs, [lane] * len(specs), dry_run=dry_run, wait=wait, home=home)


def read_again(source: Source) -> tuple[Source, Sequence[Spec], Sequence[str]]:
    """The tools that the server has now; a person approves what is new or has changed. Raises NotApproved."""
    title, tools = _listed(source.settings)
    offer = offer_of(source, tools)
    _approve(offer, _compared(source, offer, None), yes=False)
    specs = specs_of(offer)
    return source.model_copy(update={"title": title}), specs, [source.lane] * len(specs)


def lane_of(title: str) -> str:
    """The lane of a server's tools if nobody names another: its name, fit for a subject."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "mcp"


def _listed(settings: dict[str, object]) -> tuple[str, list[ListedTool]]:
    import asyncio

    from infra import logs
    from tool_adapters.mcp.settings import require_sdk, settings_of
    from tool_adapters.references import found

    require_sdk()
    from tool_adapters.mcp.session import McpServer

    logs.configure("client", level="error")
    server = McpServer(settings_of(settings), found)

    async def ask() -> tuple[str, list[ListedTool]]:
        try:
            live = await server.live()
            return live.title, list(live.tools.values())
        finally:
            await server.close()

    with says("asking the server"):
        return asyncio.run(ask())


def offer_of(source: Source, tools: list[ListedTool]) -> Offer:
    from tool_adapters.mcp.cards import Effects, offer

    effects: Effects = Effects.model_validate(source.settings.get("effects") or {})
    return offer(tools, lane=source.lane, prefix=str(source.settings.get("prefix", source.lane)), effects=effects)


def specs_of(offer: Offer) -> list[Spec]:
    from services.tools.sources import Spec

    return [Spec(card=card, call=call.model_dump(mode="json")) for card, call in offer.tools]


# --- what a person looks at -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compared:
    """What an import would make otherwise. changed: cards as they were and as they are; new: beside tools that there are."""

    changed: Sequence[tuple[ToolCard, ToolCard]] = ()
    new: Sequence[str] = ()


def _compared(source: Source, offer: Offer, home: Path | None) -> Compared:
    """The server's tools beside those that were imported before."""
    from infra.cli.client import ask_list, connected
    from infra.stack import NotRunning
    from infra.wiring import World
    from runtime.client import Client
    from services.retrieval.catalogue_questions import KnownTool

    names = [card.name for card, _ in offer.tools]

    async def known(client: Client, world: World) -> dict[str, ToolCard]:
        found: dict[str, ToolCard] = {}
        for at in range(0, len(names), 50):
            asked = {"tenant": client.tenant, "names": names[at : at + 50]}
            for each in await ask_list(world, "retrieval", "get_tools", asked):
                card = KnownTool.model_validate(each).card
                found |= {card.name: card} if card.lane == source.lane else {}
        return found

    try:
        before = connected(known, home)
    except NotRunning:
        return Compared()
    cards = [card for card, _ in offer.tools]
    changed = [(before[card.name], card) for card in cards if card.name in before and before[card.name] != card]
    return Compared(changed, [card.name for card in cards if card.name not in before] if before else [])


def _approve(offer: Offer, compared: Compared, yes: bool) -> None:
    """Show what needs a person's eye, and ask. Raises NotApproved where nobody can be asked."""
    orders = [each for each in offer.findings if each.excerpt]
    needed = bool(orders or compared.changed or compared.new)
    if not as_json():
        _show(offer, counts=False)
        for before, now in compared.changed:
            _show_difference(before, now)
        for name in compared.new[:SHOWN]:
            console().print(plain(f"{name} is new", "bold"))
    if not needed or yes:
        return
    if not at_terminal():
        _not_approved(len(orders), compared)
    if not typer.confirm("Approve these tools as they are described now?", default=False):
        raise typer.Exit(1)


def _not_approved(orders: int, compared: Compared) -> NoReturn:
    names = ", ".join(now.name for _, now in compared.changed[:5])
    parts = [f"{orders} texts look like orders to a model"] if orders else []
    parts += [f"described otherwise than before: {names}"] if compared.changed else []
    parts += [f"new: {', '.join(compared.new[:5])}"] if compared.new else []
    raise NotApproved(
        "The server says things that a person has to look at first.", why="; ".join(parts),
        hint="look at it with --dry-run, then approve with: milepost tools import mcp ... --yes",
    )  # fmt: skip


def _show(offer: Offer, counts: bool = True) -> None:
    if as_json():
        print_json({
            "tools": [card.model_dump(mode="json") for card, _ in offer.tools],
            "findings": [each.model_dump(mode="json") for each in offer.findings],
            "left_out": [{"tool": name, "why": why} for name, why in offer.left_out],
        })  # fmt: skip
        return
    if counts and offer.tools:
        told = [(card.name, card.effect, card.description.splitlines()[0][:80]) for card, _ in offer.tools[:SHOWN]]
        print_table(("tool", "effect", "what it says of itself"), told)
    if offer.findings:
        rows = [(each.tool, each.where, each.what, each.excerpt) for each in offer.findings[:SHOWN]]
        print_table(("tool", "where", "look at this", "text"), rows)
    for name, why in offer.left_out[:SHOWN]:
        console().print(plain(f"left out: {name}: {why}", "yellow"))


def _show_difference(before: ToolCard, now: ToolCard) -> None:
    import difflib
    import json

    def lines(card: ToolCard) -> list[str]:
        told = card.model_dump(mode="json", include={"title", "description", "effect", "parameters", "tags"})
        return json.dumps(told, indent=1, ensure_ascii=False, sort_keys=True).splitlines()

    console().print(plain(f"{now.name} has changed", "bold"))
    for line in list(difflib.unified_diff(lines(before), lines(now), lineterm="", n=0))[2:60]:
        console().print(plain(f"  {line}", "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"))


# --- what was typed -------------------------------------------------------------------------------


def _pairs(given: Pairs) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given or []:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{each!r} is not NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def _oauth(given: dict[str, str]) -> dict[str, object]:
    if not given:
        return {}
    if missing := {"client", "secret", "issuer"} - set(given):
        raise typer.BadParameter(f"--oauth needs {', '.join(sorted(missing))} too")
    asked = {
        "client_id": given["client"],
        "client_secret": given["secret"],
        "issuer": given["issuer"],
        "scope": given.get("scope"),
    }
    return {"oauth": asked}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MilepostError(f"{path} cannot be read.", why=str(error), hint="give a TOML or JSON file") from error
