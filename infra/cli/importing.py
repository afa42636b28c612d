"""Bringing tools in: into the store of sources and the catalogue side by side, batch by batch, until their host is heard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import orjson

from infra.cli.import_shown import Advance, Outcome
from infra.wiring import World
from runtime.client import Client
from runtime.errors import Unreachable
from schemas import subjects
from schemas.commands import Role
from schemas.tools import ToolCard, Value
from services.retrieval.catalogue_questions import GetTools, KnownTool, ListTools, Registered, RegisterTools, ToolList
from services.tools.source_questions import CheckLane, KeepOnly, PutSource, PutSpecs
from services.tools.sources import DROPPED, Source, Spec, Stored

AT_ONCE = 100
BYTES = 400 * 1024
NAMES_AT_ONCE = 2000
NAMES_KNOWN = 500
ASK_S = 60.0
LOOK_S = 0.5
HOSTED_LOOK_S = 0.1
HOSTED_S = 20.0
TRIES = 8


async def bring(
    client: Client, world: World, source: Source, specs: Sequence[Spec], outcome: Outcome, advance: Advance, adds: bool
) -> None:  # fmt: skip
    """Batch by batch into store and catalogue; each is sent again while a service or its database is away."""
    begun = time.monotonic()
    source = source.model_copy(update={"tenant": client.tenant})
    await _check_lane(world, source)
    for batch in _batches(specs):
        await asyncio.gather(_store(world, source, batch, outcome), _register(world, source, batch, outcome))
        outcome.done += len(batch)
        advance(outcome.done)
    refused = {refusal.tool for refusal in outcome.refused}
    names = [spec.card.name for spec in specs if spec.card.name not in refused]
    if not adds:
        await keep_only(world, source, names, outcome.gone)
        outcome.gone = [name for name in outcome.gone if name not in refused]
    await patiently(world, "tools", "put_source", PutSource(source=source))
    outcome.hosted = await _hosted(world, source, names)
    outcome.waiting = await _waiting(client, world)
    outcome.seconds = time.monotonic() - begun


async def _check_lane(world: World, source: Source) -> None:
    """Before anything is stored: the lane is free, or an earlier import's of the same kind. Raises LaneTaken."""
    await patiently(world, "tools", "check_lane", CheckLane(tenant=source.tenant, lane=source.lane, kind=source.kind))


async def _store(world: World, source: Source, batch: Sequence[Spec], outcome: Outcome) -> None:
    asked = PutSpecs(tenant=source.tenant, lane=source.lane, specs=tuple(batch))
    outcome.new += Stored.model_validate_json(await patiently(world, "tools", "put_specs", asked)).new


async def _register(world: World, source: Source, batch: Sequence[Spec], outcome: Outcome) -> None:
    asked = RegisterTools(tenant=source.tenant, cards=tuple(spec.card for spec in batch))
    said = Registered.model_validate_json(await patiently(world, "retrieval", "register_tools", asked))
    outcome.changed += said.changed
    outcome.refused.extend(said.refused)


async def keep_only(world: World, source: Source, names: Sequence[str], gone: list[str]) -> None:
    """Drop the tools of a source that are not named, from store and catalogue; `gone` gets their names."""
    for after, upto, kept in _ranges(sorted(names)):
        asked = KeepOnly(tenant=source.tenant, lane=source.lane, names=kept, after=after, upto=upto)
        while True:
            dropped: list[str] = orjson.loads(await patiently(world, "tools", "keep_only", asked))
            cards = [ToolCard(name=name, description="gone", parameters={}, lane=source.lane) for name in dropped]
            for at in range(0, len(cards), AT_ONCE):
                some = cards[at : at + AT_ONCE]
                await asyncio.gather(*(world.bus.withdraw_card(source.tenant, card) for card in some))
            await _until_out(world, source, dropped)
            gone.extend(dropped)
            if len(dropped) < DROPPED:
                break


async def _until_out(world: World, source: Source, names: Sequence[str]) -> None:
    """Wait until the catalogue has heard that these tools are gone; not for ever."""
    until = time.monotonic() + HOSTED_S
    for at in range(0, len(names), NAMES_KNOWN):
        asked = GetTools(tenant=source.tenant, names=tuple(names[at : at + NAMES_KNOWN]))
        while time.monotonic() < until:
            known = orjson.loads(await patiently(world, "retrieval", "get_tools", asked))
            if not any(KnownTool.model_validate(each).card.lane == source.lane for each in known):
                break
            await asyncio.sleep(HOSTED_LOOK_S)


def _ranges(names: Sequence[str]) -> Iterator[tuple[str, str | None, tuple[str, ...]]]:
    """The names in pieces, each with the range that it is all of: behind the end of the piece before, up to its own end."""
    after = ""
    for at in range(0, max(1, len(names)), NAMES_AT_ONCE):
        some = tuple(names[at : at + NAMES_AT_ONCE])
        upto = some[-1] if at + NAMES_AT_ONCE < len(names) else None
        yield after, upto, some
        after = upto or ""


async def _hosted(world: World, source: Source, names: Sequence[str]) -> bool:
    """Wait until the catalogue hears the host of these tools; not for ever."""
    if not names:
        return False
    asked = GetTools(tenant=source.tenant, names=tuple(names[:1]))
    until = time.monotonic() + HOSTED_S
    while time.monotonic() < until:
        known = orjson.loads(await patiently(world, "retrieval", "get_tools", asked))
        if known and KnownTool.model_validate(known[0]).presence == "here":
            return True
        await asyncio.sleep(HOSTED_LOOK_S)
    return False


async def embedded(client: Client, world: World, outcome: Outcome, advance: Advance) -> None:
    """Until every card has its vector."""
    first = outcome.waiting
    while outcome.waiting:
        await asyncio.sleep(LOOK_S)
        outcome.waiting = await _waiting(client, world)
        advance(max(0, first - outcome.waiting))


async def _waiting(client: Client, world: World) -> int:
    asked = ListTools(tenant=client.tenant, limit=1)
    return ToolList.model_validate_json(await patiently(world, "retrieval", "list_tools", asked)).state.unembedded


async def patiently(world: World, role: Role, verb: str, asked: Value) -> bytes:
    """A service's answer to a question; while it is away, it is asked again for a while. Raises Unreachable."""
    raw, pause = asked.model_dump_json().encode(), 0.2
    for attempt in range(TRIES):
        try:
            return await world.bus.ask(subjects.question(role, verb), raw, ASK_S)
        except Unreachable:
            if attempt + 1 == TRIES:
                raise
        await asyncio.sleep(pause)
        pause = min(5.0, pause * 2)
    raise AssertionError


def _batches(specs: Sequence[Spec]) -> Iterator[list[Spec]]:
    """In order, each far below what one message may carry."""
    batch: list[Spec] = []
    size = 0
    for spec in specs:
        more = len(spec.model_dump_json().encode())
        if batch and (len(batch) == AT_ONCE or size + more > BYTES):
            yield batch
            batch, size = [], 0
        batch.append(spec)
        size += more
    if batch:
        yield batch
