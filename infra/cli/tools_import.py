"""`milepost tools import`: catalogues of other systems as tools that can be found; a host for them comes later."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json

if TYPE_CHECKING:
    from pathlib import Path

    from infra.wiring import World
    from runtime.client import Client
    from schemas.tools import Effect, Refusal, ToolCard

AT_ONCE = 100
BYTES = 400 * 1024
ASK_S = 60.0
LOOK_S = 0.5
TRIES = 8
SHOWN = 10

imports = typer.Typer(no_args_is_help=True, help="Make tools known that other systems describe.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be imported.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the tools can be found by their meaning, too.")]


class Language(StrEnum):
    """Whose texts the cards have."""

    ZH = "zh"
    EN = "en"
    BOTH = "both"


@dataclass(slots=True)
class Outcome:
    """What became of an import so far."""

    cards: int
    done: int = 0
    changed: int = 0
    refused: list[Refusal] = field(default_factory=list)
    waiting: int = 0
    seconds: float = 0.0


class Advance(Protocol):
    """Says how far it is."""

    def __call__(self, done: int) -> None: ...


def add_to(tools: typer.Typer) -> None:
    """Add this file's commands to those about tools."""
    imports.command()(aliyun)
    imports.command()(openapi)
    tools.add_typer(imports, name="import")


def aliyun(
    path: Annotated[
        str, typer.Argument(help="A checkout, a folder of archives, or an archive of aliyun-openapi-meta; or its address.")
    ] = "",
    product: Annotated[str, typer.Option(help="Only these, such as ecs,vpc,rds.", show_default="all")] = "",
    language: Annotated[Language, typer.Option(help="Whose titles and descriptions.")] = Language.BOTH,
    dry_run: DryRun = False, wait: Wait = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Import the APIs of Alibaba Cloud (about 16,000), as <product>_<Api>."""
    from infra.cli.sources import at_hand
    from tool_adapters.aliyun import metadata

    use_json(json)
    products = [each.strip().lower() for each in product.split(",") if each.strip()]
    with at_hand(path or metadata.SOURCE) as place, _says("reading the metadata"):
        cards = list(metadata.cards(metadata.read(place, products, language.value), language.value))
    _run(cards, [card.name.partition("_")[0] for card in cards], dry_run=dry_run, wait=wait, home=home)


def openapi(
    source: Annotated[str, typer.Argument(metavar="PATH|URL", help="An OpenAPI 3.x or Swagger 2.0 document, JSON or YAML.")],
    lane: Annotated[str, typer.Option(help="The host that will answer them.", show_default="the API's title")] = "",
    prefix: Annotated[str, typer.Option(help="What every name shall begin with.", show_default=False)] = "",
    dry_run: DryRun = False, wait: Wait = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Import the operations of an OpenAPI document, each by its operationId."""
    from infra.cli.sources import SourceUnreadable, at_hand
    from schemas.ids import checked_token
    from tool_adapters.openapi import cards as openapi_cards
    from tool_adapters.openapi import document

    use_json(json)
    if lane:
        checked_token(lane, "lane")
    with at_hand(source) as place, _says("reading the document"):
        try:
            raw = place.read_bytes()
        except OSError as error:
            raise SourceUnreadable(f"{source} cannot be read.", why=str(error), hint="give a file") from error
        cards = list(openapi_cards.cards(document.read(raw), lane=lane, prefix=prefix))
    _run(cards, [card.tags[1] if len(card.tags) > 1 else "" for card in cards], dry_run=dry_run, wait=wait, home=home)


def _run(cards: Sequence[ToolCard], groups: Sequence[str], *, dry_run: bool, wait: bool, home: Path | None) -> None:
    from infra.cli.client import connected

    if dry_run:
        _preview(cards, groups)
        return
    outcome = Outcome(len(cards))
    try:
        with _bar("tools", len(cards)) as advance:
            connected(lambda client, world: _import(client, world, cards, outcome, advance), home)
        if wait and outcome.waiting:
            with _bar("vectors", outcome.waiting) as advance:
                connected(lambda client, world: _embedded(client, world, outcome, advance), home)
    except KeyboardInterrupt:
        console(stderr=True).print(
            plain(f"stopped: {outcome.done:,} of {outcome.cards:,} tools are in; run the same again to go on")
        )
        raise typer.Exit(130) from None
    _summary(cards, outcome)


async def _import(client: Client, world: World, cards: Sequence[ToolCard], outcome: Outcome, advance: Advance) -> None:
    """Batch by batch; each is sent again while the service or its database is away."""
    from services.retrieval.catalogue_questions import Registered, RegisterTools

    begun = time.monotonic()
    for batch in _batches(cards):
        raw = RegisterTools(tenant=client.tenant, cards=tuple(batch)).model_dump_json().encode()
        said = Registered.model_validate_json(await _patiently(world, "register_tools", raw))
        outcome.done += len(batch)
        outcome.changed += said.changed
        outcome.refused.extend(said.refused)
        advance(outcome.done)
    outcome.waiting = await _waiting(client, world)
    outcome.seconds = time.monotonic() - begun


async def _embedded(client: Client, world: World, outcome: Outcome, advance: Advance) -> None:
    """Until every card has its vector."""
    import asyncio

    first = outcome.waiting
    while outcome.waiting:
        await asyncio.sleep(LOOK_S)
        outcome.waiting = await _waiting(client, world)
        advance(max(0, first - outcome.waiting))


async def _waiting(client: Client, world: World) -> int:
    from services.retrieval.catalogue_questions import ListTools, ToolList

    raw = ListTools(tenant=client.tenant, limit=1).model_dump_json().encode()
    return ToolList.model_validate_json(await _patiently(world, "list_tools", raw)).state.unembedded


async def _patiently(world: World, verb: str, raw: bytes) -> bytes:
    import asyncio

    from runtime.errors import Unreachable
    from schemas import subjects

    pause = 0.2
    for attempt in range(TRIES):
        try:
            return await world.bus.ask(subjects.question("retrieval", verb), raw, ASK_S)
        except Unreachable:
            if attempt + 1 == TRIES:
                raise
        await asyncio.sleep(pause)
        pause = min(5.0, pause * 2)
    raise AssertionError


def _batches(cards: Sequence[ToolCard]) -> Iterator[list[ToolCard]]:
    """In order, each far below what one message may carry."""
    batch: list[ToolCard] = []
    size = 0
    for card in cards:
        more = len(card.model_dump_json().encode())
        if batch and (len(batch) == AT_ONCE or size + more > BYTES):
            yield batch
            batch, size = [], 0
        batch.append(card)
        size += more
    if batch:
        yield batch


# --- what is shown --------------------------------------------------------------------------------


@contextmanager
def _says(what: str) -> Iterator[None]:
    out = console(stderr=True)
    if as_json() or not out.is_terminal:
        yield
        return
    with out.status(plain(what)):
        yield


@contextmanager
def _bar(what: str, total: int) -> Iterator[Advance]:
    """A progress bar on a terminal, nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    out = console(stderr=True)
    shown = not as_json() and out.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, disable=not shown, transient=True) as progress:
        task = progress.add_task(what, total=total)

        def advance(done: int) -> None:
            progress.update(task, completed=done)

        yield advance


def _preview(cards: Sequence[ToolCard], groups: Sequence[str]) -> None:
    counts: dict[str, Counter[Effect]] = {}
    for card, group in zip(cards, groups, strict=True):
        counts.setdefault(group or "-", Counter())[card.effect] += 1
    if as_json():
        print_json({"tools": len(cards), "groups": counts})
        return
    counts["all"] = sum(counts.values(), Counter())
    effects: tuple[Effect, ...] = ("read", "write", "destructive")
    rows = [(group, f"{count.total():,}", *(f"{count[effect]:,}" for effect in effects)) for group, count in counts.items()]
    print_table(("of", "tools", *effects), rows, right=("tools", *effects))
    console().print(plain("nothing was imported (--dry-run)", "dim"))


def _summary(cards: Sequence[ToolCard], outcome: Outcome) -> None:
    lane = cards[0].lane if cards else ""
    if as_json():
        print_json({
            "tools": outcome.cards, "changed": outcome.changed, "unchanged": _unchanged(outcome), "lane": lane,
            "refused": [each.model_dump() for each in outcome.refused], "without_vector": outcome.waiting,
            "seconds": round(outcome.seconds, 3),
        })  # fmt: skip
        return
    out = console()
    parts = [f"{outcome.changed:,} new or changed", f"{_unchanged(outcome):,} as before", f"{len(outcome.refused):,} refused"]
    out.print(plain(f"{outcome.cards:,} tools of {lane}: {', '.join(parts)} ({outcome.seconds:.1f} s)"))
    for refusal in outcome.refused[:SHOWN]:
        out.print(plain(f"  refused {refusal.tool}: {refusal.what} {refusal.why}", "yellow"))
    if len(outcome.refused) > SHOWN:
        out.print(plain(f"  and {len(outcome.refused) - SHOWN:,} more; --json lists them all", "yellow"))
    if outcome.waiting:
        later = f"{outcome.waiting:,} are still to be read for their meaning, and rank low until then"
        out.print(plain(f"found by their words now; {later}", "dim"))
    out.print(plain(f"no host answers {lane} yet: agents are not offered these tools until one does", "dim"))


def _unchanged(outcome: Outcome) -> int:
    return outcome.done - outcome.changed - len(outcome.refused)
