"""Tools: what the catalogue has, how an agent would find it, what it takes; and reads by hand."""

from __future__ import annotations

import difflib
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli import tools_import, tools_new
from infra.cli.options import Home, Json, question_of
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from rich.text import Text

    from infra.wiring import World
    from runtime.client import Client
    from schemas.tools import Effect
    from services.retrieval.catalogue_questions import KnownTool, ListedTool, ToolList
    from services.retrieval.hosts import Presence
    from services.retrieval.tool_index import CardVersion

tools = typer.Typer(no_args_is_help=True, help="List, search, show, call, import and remove tools.")

_PAGE = 500
_REMOVE_S = 60.0

Name = Annotated[str, typer.Argument(help="The tool's name.", show_default=False)]
_EFFECTS = {"read": "green", "write": "yellow", "destructive": "red"}


class EffectName(StrEnum):
    """What a tool may change."""

    READ = "read"
    WRITE = "write"
    DESTRUCTIVE = "destructive"


class UnknownTool(MilepostError):
    """The catalogue has no tool of that name."""


class NoHost(MilepostError):
    """Nobody answers the calls of a tool."""


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (search, show, call):
        tools.command()(command)
    tools.command("ls")(list_)
    tools.command("rm")(remove)
    tools.command()(tools_new.new)
    tools_import.add_to(tools)
    app.add_typer(tools, name="tools")


def list_(
    lane: Annotated[str | None, typer.Option(help="Only those of this host.", show_default=False)] = None,
    effect: Annotated[EffectName | None, typer.Option(help="Only those that do so.", show_default=False)] = None,
    text: Annotated[str, typer.Option(help="Only those with this in their name or description.", show_default=False)] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 100,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """List the tools of the catalogue, and who answers them."""
    from infra.cli.client import connected

    use_json(json)
    asked: dict[str, object] = {"lane": lane, "effect": effect.value if effect else None, "text": text}
    most = sys.maxsize if everything else limit
    found, last = connected(lambda client, world: _listed(client, world, asked, most), home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
        return
    filtered = bool(lane or effect or text)
    rows = [(each.name, _effect(each.effect), _host(each.lane, each.presence), _first_line(each.description)) for each in found]
    if rows:
        print_table(("tool", "effect", "host", "what it does"), rows)
    else:
        console(stderr=True).print(
            "no tool is like that · milepost tools ls" if filtered else "no tool is known · milepost doctor"
        )
    _print_rest(last, len(found), filtered)


def search(
    text: Annotated[str, typer.Argument(help="What an agent would be asked.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many.")] = 5,
    why: Annotated[bool, typer.Option("--why", help="What each score is made of.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Find tools as an agent would: by meaning, by words and by name; also those that nobody answers."""
    from infra.cli.client import ask_list, connected
    from services.retrieval.catalogue_questions import FoundTool

    use_json(json)
    text = question_of(text, 'milepost tools search "renew my server"')

    async def work(client: Client, world: World) -> list[FoundTool]:
        asked = {"tenant": client.tenant, "text": text, "k": k}
        return [FoundTool.model_validate(each) for each in await ask_list(world, "retrieval", "find_tools", asked)]

    found = connected(work, home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
        return
    rows = [
        (
            f"{each.score:.3f}", each.card.name, _effect(each.card.effect), _host(each.card.lane, each.presence),
            _parts(each.why) if why else _first_line(each.card.description),
        )
        for each in found
    ]  # fmt: skip
    print_table(("score", "tool", "effect", "host", "why" if why else "what it does"), rows, right=("score",))


def show(
    name: Name, versions: Annotated[bool, typer.Option("--versions", help="What it has been.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Show a tool's card: what it does, what it takes, what it changes, who answers it."""
    from infra.cli.client import connected

    use_json(json)
    if versions:
        _show_versions(connected(lambda client, world: _versions(client, world, name), home))
        return
    known = connected(lambda client, world: _known(client, world, name), home)
    if as_json():
        said = known.model_dump(mode="json", exclude={"card"})
        print_json({**known.card.model_dump(mode="json"), "hash": known.card.hash(), "host": said})
    else:
        _print_card(known)


def remove(
    names: Annotated[list[str] | None, typer.Argument(help="The tools' names.", show_default=False)] = None,
    lane: Annotated[str | None, typer.Option(help="All tools of this host.", show_default=False)] = None,
    shared: Annotated[bool, typer.Option("--shared", help="Those that every tenant sees.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Take tools out that nobody answers: imported ones, and those of a host that is gone."""
    from infra.cli.client import connected

    use_json(json)
    if bool(names) == bool(lane):
        raise typer.BadParameter("name the tools, or give --lane")
    asked: dict[str, object] = {"names": names or [], "lane": lane, "shared": shared}
    gone = connected(lambda client, world: _removed(client, world, asked), home)
    if not gone:
        raise UnknownTool(
            "No tool was taken out.", why=f"the catalogue has none {_named(names, lane)}", hint="milepost tools ls"
        )
    if as_json():
        print_json(gone)
        return
    console().print(plain(f"{len(gone):,} {'tool is' if len(gone) == 1 else 'tools are'} out of the catalogue"))
    for name in sorted(set(names or []) - set(gone)):
        console().print(plain(f"  {name} was not in it", "yellow"))


def call(
    name: Name, arguments: Annotated[str, typer.Argument(metavar="JSON", help="Its arguments, a JSON object.")] = "{}",
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Call a tool that changes nothing. A tool that writes is called by a run, which plans, asks and records it."""
    from infra.cli.client import ask, connected
    from schemas.canonical import read_json
    from schemas.errors import ProtocolError
    from schemas.tools import ToolResult
    from services.tools.by_hand import call_verb
    from tool_adapters.tool import ARGUMENTS_LIMIT

    use_json(json)
    try:
        given = read_json(arguments, limit=ARGUMENTS_LIMIT)
    except ProtocolError as error:
        raise _no_object(name, error.why or error.what) from error
    if not isinstance(given, dict):
        raise _no_object(name, f"it is a {type(given).__name__}")

    async def work(client: Client, world: World) -> ToolResult:
        known = await _known(client, world, name)
        card = known.card
        if known.presence != "here":
            raise NoHost(f"{name} cannot be called now.", why=_about_host(known), hint=f"milepost tools show {name}")
        asked = {"tenant": client.tenant, "user": client.user, "name": name, "arguments": given}
        said = await ask(world, "tools", call_verb(card.lane), asked, card.timeout_s + 5)
        return ToolResult.model_validate(said)

    result = connected(work, home)
    if as_json():
        print_json(result.model_dump(mode="json"))
    else:
        console().print(plain(result.text), soft_wrap=True)


def _named(names: list[str] | None, lane: str | None) -> str:
    return f"of the host {lane}" if lane else f"named {' or '.join(names or ())}"


def _no_object(name: str, why: str) -> MilepostError:
    return MilepostError("The arguments are no JSON object.", why=why, hint=f"milepost tools show {name}")


async def _listed(
    client: Client, world: World, asked: dict[str, object], limit: int
) -> tuple[list[ListedTool], ToolList]:  # fmt: skip
    """The tools, page by page, and the page that says how many there are."""
    from infra.cli.client import ask
    from services.retrieval.catalogue_questions import ToolList

    found: list[ListedTool] = []
    after, first = "", None
    while True:
        asked = {**asked, "tenant": client.tenant, "after": after, "limit": min(_PAGE, limit - len(found))}
        page = ToolList.model_validate(await ask(world, "retrieval", "list_tools", asked))
        first = first or page
        found.extend(page.tools)
        if page.after is None or len(found) >= limit:
            return found, first.model_copy(update={"after": page.after})
        after = page.after


async def _known(client: Client, world: World, name: str) -> KnownTool:
    from infra.cli.client import ask_list
    from services.retrieval.catalogue_questions import KnownTool

    found = await ask_list(world, "retrieval", "get_tools", {"tenant": client.tenant, "names": [name]})
    if found:
        return KnownTool.model_validate(found[0])
    raise await _unknown(client, world, name)


async def _unknown(client: Client, world: World, name: str) -> UnknownTool:
    from infra.cli.client import ask_list
    from services.retrieval.catalogue_questions import FoundTool

    near = await ask_list(world, "retrieval", "find_tools", {"tenant": client.tenant, "text": name[:200], "k": 10})
    names = [FoundTool.model_validate(each).card.name for each in near]
    holding, _ = await _listed(client, world, {"text": name[:200]}, 100)
    part = [each.name for each in holding if name.casefold() in each.name.casefold()]
    part.sort(key=lambda each: (not each.casefold().startswith(name.casefold()), len(each)))
    close = [*difflib.get_close_matches(name, names, n=1), *part]
    hint = f"did you mean {close[0]}?" if close else f'milepost tools search "{name[:40]}"'
    return UnknownTool(f"There is no tool {name}.", why="the catalogue has none of that name", hint=hint)


async def _versions(client: Client, world: World, name: str) -> list[CardVersion]:
    from infra.cli.client import ask_list
    from services.retrieval.tool_index import CardVersion

    said = await ask_list(world, "retrieval", "tool_versions", {"tenant": client.tenant, "name": name})
    if not said:
        raise await _unknown(client, world, name)
    return [CardVersion.model_validate(each) for each in said]


async def _removed(client: Client, world: World, asked: dict[str, object]) -> list[str]:
    from infra.cli.client import ask
    from services.retrieval.catalogue_questions import Removed

    gone: list[ListedTool] = []
    after: str | None = ""
    while after is not None:
        question = {**asked, "tenant": client.tenant, "after": after}
        said = Removed.model_validate(await ask(world, "retrieval", "remove_tools", question, _REMOVE_S))
        gone.extend(said.tools)
        after = said.after
    published = {(each.lane, each.name) for each in gone if each.presence != "no host"}
    for lane, name in [(asked["lane"], "*")] if asked["lane"] else published:
        await world.bus.drop_cards("*" if asked["shared"] else client.tenant, str(lane), name)
    return [each.name for each in gone]


def _print_rest(last: ToolList, shown: int, filtered: bool) -> None:
    out, state = console(), last.state
    if last.after is not None:
        every = "; --all lists all such tools" if filtered else f" of {state.cards:,} tools; --all lists them all"
        fewer = "" if filtered else ", --text, --lane and --effect fewer"
        out.print(plain(f"the first {shown:,}{every}{fewer}", "dim"))
    if state.unembedded and not filtered:
        out.print(
            plain(
                f"{state.unembedded:,} are still to be read for their meaning; until then words find them, and they rank low",
                "dim",
            )
        )
    for refusal in last.refused:
        out.print(plain(f"refused: {refusal.tool} of {refusal.lane}: {refusal.what}", "yellow"))
        out.print(plain(f"  why: {refusal.why}  next: {refusal.hint}", "dim"))


def _show_versions(found: list[CardVersion]) -> None:
    if as_json():
        print_json([{**each.model_dump(mode="json"), "hash": each.card.hash()} for each in found])
        return
    rows = [
        (
            str(each.since), "now" if each.until is None else str(each.until), each.card.version, _effect(each.card.effect),
            each.card.lane, each.card.hash(), _first_line(each.card.description),
        )
        for each in found
    ]  # fmt: skip
    print_table(("from revision", "to", "version", "effect", "host", "hash", "what it does"), rows)


def _print_card(known: KnownTool) -> None:
    out, card = console(), known.card
    out.print(plain(card.name, "bold") + plain("  ") + _effect(card.effect) + plain(f"  version {card.version}", "dim"))
    if card.title not in ("", card.name):
        out.print(plain(card.title))
    out.print(plain(card.description))
    out.print(plain(_about_host(known), "dim" if known.presence == "here" else "yellow"))
    out.print()
    required = card.parameters.get("required")
    needed = set(required) if isinstance(required, list) else set()
    properties = card.parameters.get("properties")
    rows = [
        (name, _type(schema), "yes" if name in needed else "", str(schema.get("description", "")))
        for name, schema in (properties.items() if isinstance(properties, dict) else ())
    ]
    print_table(("argument", "type", "needed", "what it is"), rows) if rows else out.print("it takes no arguments")
    out.print()
    keys = {
        "key": "a repeat is told apart by our key",
        "query": "a repeat is told apart by asking",
        "none": "cannot be told apart",
    }
    repeats = "" if card.effect == "read" else f"repeats: {keys[card.idempotency]} · "
    out.print(plain(f"{repeats}gives up after {card.timeout_s:g} s · hash {card.hash()}", "dim"))
    for example in card.examples:
        out.print(plain(f"example: {example}", "dim"))


def _type(schema: dict[str, object]) -> str:
    choices = schema.get("enum")
    kind = str(schema.get("type") or ("any of" if "anyOf" in schema else "any"))
    return f"{kind}: {' | '.join(str(each) for each in choices)}" if isinstance(choices, list) else kind


def _about_host(known: KnownTool) -> str:
    lane = known.card.lane
    if known.presence == "no host":
        return f"no host answers {lane}: it is found, but offered to no agent"
    if known.seen and known.presence == "away":
        return f"its host {lane} is away, last heard {local(known.seen)}: it is offered to no agent until the host is back"
    failing = f", {known.failing:.0%} of its last calls failed" if known.failing else ""
    return f"answered by {lane}, {known.queue} {'call' if known.queue == 1 else 'calls'} under way{failing}"


def _host(lane: str, presence: Presence) -> Text:
    return plain(lane) if presence == "here" else plain(f"{lane} ({presence})", "yellow")


def _parts(why: dict[str, float]) -> str:
    return "  ".join(f"{part} {value:.3f}" for part, value in why.items())


def _effect(effect: Effect) -> Text:
    return plain(effect, _EFFECTS.get(effect, ""))


def _first_line(description: str) -> str:
    from runtime.timeline import short

    return short(description, 200)
