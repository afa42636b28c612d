"""Tools: what the catalogue has, how an agent would find it, what it takes; and reads by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from rich.text import Text

    from infra.wiring import World
    from runtime.client import Client
    from schemas.tools import ToolCard

tools = typer.Typer(no_args_is_help=True, help="List, search, show and call tools.")

Name = Annotated[str, typer.Argument(help="The tool's name.", show_default=False)]
_EFFECTS = {"read": "green", "write": "yellow", "destructive": "red"}


class UnknownTool(MilepostError):
    """The catalogue has no tool of that name."""


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (search, show, call):
        tools.command()(command)
    tools.command("ls")(list_)
    app.add_typer(tools, name="tools")


def list_(home: Home = None, json: Json = False) -> None:
    """List every tool of the catalogue."""
    from infra.cli.client import connected

    use_json(json)
    cards = connected(lambda _, world: _cards(world), home)
    if as_json():
        print_json([card.model_dump(mode="json") for card in cards])
        return
    rows = [(card.name, _effect(card), card.lane, _first_line(card)) for card in cards]
    print_table(("tool", "effect", "host", "what it does"), rows)


def search(
    text: Annotated[str, typer.Argument(help="What an agent would be asked.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many.")] = 5, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Find tools as an agent would: by meaning, by words and by name."""
    from infra.cli.client import ask_list, connected
    from schemas.events import ScoredCard

    use_json(json)

    async def work(client: Client, world: World) -> list[ScoredCard]:
        asked = {"tenant": client.tenant, "text": text, "k": k}
        return [ScoredCard.model_validate(each) for each in await ask_list(world, "retrieval", "find_tools", asked)]

    found = connected(work, home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
        return
    rows = [(f"{each.score:.3f}", each.card.name, _effect(each.card), _first_line(each.card)) for each in found]
    print_table(("score", "tool", "effect", "what it does"), rows, right=("score",))


def show(name: Name, home: Home = None, json: Json = False) -> None:
    """Show a tool's card: what it does, what it takes, what it changes."""
    from infra.cli.client import connected

    use_json(json)
    card = connected(lambda _, world: _card(world, name), home)
    if as_json():
        print_json({**card.model_dump(mode="json"), "hash": card.hash()})
    else:
        _print_card(card)


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
        card = await _card(world, name)
        asked = {"tenant": client.tenant, "user": client.user, "name": name, "arguments": given}
        said = await ask(world, "tools", call_verb(card.lane), asked, card.timeout_s + 5)
        return ToolResult.model_validate(said)

    result = connected(work, home)
    if as_json():
        print_json(result.model_dump(mode="json"))
    else:
        console().print(plain(result.text), soft_wrap=True)


def _no_object(name: str, why: str) -> MilepostError:
    return MilepostError("The arguments are no JSON object.", why=why, hint=f"milepost tools show {name}")


async def _cards(world: World) -> list[ToolCard]:
    from infra.cli.client import ask_list
    from schemas.tools import ToolCard

    asked = {"tenant": world.settings.tenant}
    return [ToolCard.model_validate(each) for each in await ask_list(world, "retrieval", "list_tools", asked)]


async def _card(world: World, name: str) -> ToolCard:
    import difflib

    cards = {card.name: card for card in await _cards(world)}
    if name in cards:
        return cards[name]
    close = difflib.get_close_matches(name, cards, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else "milepost tools ls"
    raise UnknownTool(f"There is no tool {name}.", why=f"the catalogue has {len(cards)} others", hint=hint)


def _print_card(card: ToolCard) -> None:
    out = console()
    about = plain(f"  host {card.lane}, version {card.version}", "dim")
    out.print(plain(card.name, "bold") + plain("  ") + _effect(card) + about)
    out.print(plain(card.description))
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
    keys = {"key": "a repeat is told apart by our key", "query": "a repeat is told apart by asking", "none": "no"}
    out.print(plain(f"repeats: {keys[card.idempotency]} · gives up after {card.timeout_s:g} s · hash {card.hash()}", "dim"))
    for example in card.examples:
        out.print(plain(f"example: {example}", "dim"))


def _type(schema: dict[str, object]) -> str:
    choices = schema.get("enum")
    kind = str(schema.get("type") or ("any of" if "anyOf" in schema else "any"))
    return f"{kind}: {' | '.join(str(each) for each in choices)}" if isinstance(choices, list) else kind


def _effect(card: ToolCard) -> Text:
    return plain(card.effect, _EFFECTS.get(card.effect, ""))


def _first_line(card: ToolCard) -> str:
    from runtime.timeline import short

    return short(card.description, 200)
