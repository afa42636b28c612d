"""services.gateway.ports.workshop.Workshop: imports as the commands of the CLI make them, with what a stranger may not ask for.

Over the door nothing of this machine is read or started: a document is pasted or fetched from a public address, an MCP
server is an address, and no place that is not public can be allowed. A credential is a reference to a variable that was set
aside for tools (`env:MILEPOST_TOOL_...`), and only the stack's own tenant may name one, or use the cloud account.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra.given_call import caller
from infra.wiring import World
from runtime.client import Client
from runtime.errors import Permanent
from schemas.canonical import JsonObject, digest
from schemas.errors import MilepostError
from schemas.policy import Rule
from schemas.tools import ToolCard
from services.gateway.answers import Conflict, NotThere
from services.gateway.ports.workshop import Finding, GivenCall, Import, Imported, ImportKind, Line
from services.llm.caller import task_of

if TYPE_CHECKING:
    from services.tools.source_questions import KnownSource
    from services.tools.sources import Source, Spec

SHOWN = 200
DOCUMENT_BYTES = 16 * 1024 * 1024
FETCH_S = 30.0
OPEN_S = 20.0
KNOWN_AT_ONCE = 50
SECRETS = "env:MILEPOST_TOOL_"
PASTED = "pasted:"
"""What a source names as its document that was pasted; it cannot be read again."""
_MAKING = 1
"""Imports that are worked out together: each may take a processor for seconds."""

_ONLY_TRIED = Rule(name="only-tried", then="dry_run", why="it is only tried")


class NotOverTheDoor(Permanent):
    """An import that is made at a terminal only."""


@dataclass(frozen=True, slots=True)
class _Made:
    kind: ImportKind
    source: Source
    specs: Sequence[Spec]
    left_out: Sequence[tuple[str, str]] = ()
    findings: Sequence[Finding] = field(default_factory=tuple)

    def digest(self) -> str:
        """Over all that a person was shown, and how it is called."""
        specs = sorted((each.card.hash(), str(sorted(each.call.items()))) for each in self.specs)
        return digest("import", self.source.lane, *(part for each in specs for part in each))


class StackWorkshop:
    """Imports over the stores that the CLI's imports use."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._room = asyncio.Semaphore(_MAKING)

    async def try_out(self, tenant: str, what: Import) -> Imported:
        async with self._room:
            made = await self._made(tenant, "", what)
            return _shown(made, await self._before(tenant, made.source.lane, made.specs))

    async def take_in(self, tenant: str, user: str, what: Import) -> Imported:
        from infra.cli.import_shown import Outcome
        from infra.cli.importing import bring

        async with self._room:
            made = await self._made(tenant, user, what)
            if what.seen and what.seen != made.digest():
                raise Conflict("It is not what was shown any more.", why="it has changed since", hint="look at it again")
            before = await self._before(tenant, made.source.lane, made.specs)
            _check_seen(what, made, before)
            outcome = Outcome(len(made.specs))
            await bring(self._client(tenant), self._world, made.source, made.specs, outcome, _nobody, False)
        refused = tuple((each.tool, f"{each.what} {each.why}".strip()) for each in outcome.refused)
        shown = _shown(made, before)
        return shown.model_copy(
            update={"left_out": (*shown.left_out, *refused), "gone": len(outcome.gone), "hosted": outcome.hosted}
        )

    async def remove(self, tenant: str, lane: str) -> int:
        from infra.cli.importing import keep_only, patiently
        from services.tools.source_questions import DropSource

        source = next((each.source for each in await self._sources(tenant) if each.source.lane == lane), None)
        if source is None or source.tenant != tenant:
            why = "" if source is None else "it is every tenant's"
            raise NotThere(f"You have imported nothing as {lane}.", why=why, hint="milepost tools sources ls")
        gone: list[str] = []
        await keep_only(self._world, source, (), gone)
        await patiently(self._world, "tools", "drop_source", DropSource(tenant=tenant, lane=lane))
        return len(gone)

    def given_call(self, card: ToolCard, arguments: JsonObject, *, only_tried: bool) -> GivenCall:
        agent = caller(card, "console")
        if only_tried:  # of two rules that fit, the tenant's and the agent's, the stricter counts
            agent = agent.model_copy(update={"policy": (_ONLY_TRIED,)})
        return GivenCall(task_of(card.name, arguments), agent)

    async def _made(self, tenant: str, user: str, what: Import) -> _Made:
        self._check(tenant, what)
        if what.kind == "openapi":
            return await self._openapi(tenant, user, what)
        if what.kind == "mcp":
            return await self._mcp(tenant, user, what)
        return await self._aliyun(tenant, user, what)

    def _check(self, tenant: str, what: Import) -> None:
        """Raises NotOverTheDoor."""
        if what.command:
            raise NotOverTheDoor(
                "A server that is a program is not imported over the door.", why="it would be started on this machine",
                hint=f'milepost tools import mcp --command "{what.command[:60]}"',
            )  # fmt: skip
        own = tenant == self._world.settings.tenant
        if what.kind == "aliyun" and not own:
            raise NotOverTheDoor(
                "The cloud is not imported here.", why="its calls would use the account of another tenant",
                hint=f"milepost tools import aliyun, on the machine of {tenant}",
            )  # fmt: skip
        for name, reference in {**what.auth, **what.headers}.items():
            if reference.startswith("text:") and name in what.headers:
                continue
            if not own or not reference.startswith(SECRETS):
                raise NotOverTheDoor(
                    f"The credential for {name} cannot be given so.",
                    why="over the door it is a variable that was set aside for tools, of the stack's own tenant",
                    hint=f"{SECRETS}NAME, set where the tools run; or milepost tools import {what.kind}",
                )  # fmt: skip

    # --- the kinds of sources ---

    async def _openapi(self, tenant: str, user: str, what: Import) -> _Made:
        from infra.cli.import_openapi import overrides_of, tools_of
        from tool_adapters.openapi import document
        from tool_adapters.openapi.call import Settings
        from tool_adapters.openapi.cards import lane_of

        raw = what.document.encode() if what.document else await _fetched(what.where)
        effects: dict[str, object] = {name: {"effect": effect} for name, effect in what.effects.items()}
        overrides_of(effects)

        def make() -> _Made:
            read = document.read(raw)
            lane = what.name or lane_of(read)
            settings = Settings(
                document=PASTED + lane if what.document else what.where, server="", auth=what.auth,
                given_server=what.server, prefix=what.prefix, effects=effects,
            )  # fmt: skip
            source = self._source(tenant, user, what, lane, settings.model_dump(mode="json"), read.title)
            source, specs, _ = tools_of(source, read, settings)
            return _Made(what.kind, source, specs)

        return await asyncio.to_thread(make)

    async def _mcp(self, tenant: str, user: str, what: Import) -> _Made:
        from infra.cli.import_mcp import lane_of, offer_of, specs_of
        from tool_adapters.mcp.cards import Effects
        from tool_adapters.mcp.settings import require_sdk, settings_of
        from tool_adapters.references import found

        require_sdk()
        from tool_adapters.mcp.session import McpServer

        settings: JsonObject = {"url": what.where, "headers": dict(what.headers)}
        server = McpServer(settings_of({**settings, "open_s": OPEN_S}), found)
        try:
            live = await server.live()
            title, tools = live.title, list(live.tools.values())
        finally:
            with suppress(Exception):
                await server.close()
        lane = what.name or lane_of(title)
        said = Effects.model_validate({
            kind: [name for name, effect in what.effects.items() if effect == kind] for kind in ("read", "write", "destructive")
        })  # fmt: skip
        settings |= {"prefix": what.prefix or lane, "effects": said.model_dump(mode="json")}
        source = self._source(tenant, user, what, lane, settings, title)
        offer = offer_of(source, tools)
        findings = [Finding.model_validate(each.model_dump()) for each in offer.findings]
        return _Made(what.kind, source, specs_of(offer), offer.left_out, findings)

    async def _aliyun(self, tenant: str, user: str, what: Import) -> _Made:
        from infra.cli.import_aliyun import read_again
        from tool_adapters.aliyun import metadata

        cloud = self._world.settings.cloud
        settings: JsonObject = {
            "path": cloud.metadata or "", "only": [each.strip().lower() for each in what.products if each.strip()],
            "language": "both", "region": cloud.region, "endpoints": {},
        }  # fmt: skip
        source = self._source(tenant, user, what, metadata.LANE, settings, "Alibaba Cloud")
        source, specs, _ = await asyncio.to_thread(read_again, source)
        return _Made(what.kind, source, specs)

    def _source(self, tenant: str, user: str, what: Import, lane: str, settings: JsonObject, title: str) -> Source:
        from services.tools.sources import Source

        return Source.model_validate({
            "tenant": tenant, "lane": lane, "kind": what.kind, "settings": settings, "title": title[:300], "owner": user,
            "since": self._world.clock.now(),
        })  # fmt: skip

    # --- beside what there is ---

    async def _before(self, tenant: str, lane: str, specs: Sequence[Spec]) -> Mapping[str, ToolCard]:
        """The cards of these names that the lane has already."""
        from infra.cli.client import ask_list
        from services.retrieval.catalogue_questions import KnownTool

        names, found = [each.card.name for each in specs], {}
        if not any(each.source.lane == lane for each in await self._sources(tenant)):
            return {}
        for at in range(0, len(names), KNOWN_AT_ONCE):
            asked = {"tenant": tenant, "names": names[at : at + KNOWN_AT_ONCE]}
            for each in await ask_list(self._world, "retrieval", "get_tools", asked):
                card = KnownTool.model_validate(each).card
                if card.lane == lane:
                    found[card.name] = card
        return found

    async def _sources(self, tenant: str) -> list[KnownSource]:
        from infra.cli.client import ask_list
        from services.tools.source_questions import KnownSource

        said = await ask_list(self._world, "tools", "sources", {"tenant": tenant})
        return [KnownSource.model_validate(each) for each in said]

    def _client(self, tenant: str) -> Client:
        return Client(self._world.log, self._world.bus, self._world.clock, tenant=tenant)


async def _fetched(address: str) -> bytes:
    """A document from a public address. Raises MilepostError."""
    from tool_adapters.web import opened

    if not address:
        raise MilepostError("There is nothing to import.", why="neither a document nor an address was given")
    raw = bytearray()
    async with opened(address, frozenset(), FETCH_S, accept="application/json, application/yaml, text/yaml, */*") as answer:
        if answer.status != 200:
            raise MilepostError(f"{address} answered HTTP {answer.status}.", hint="open it in a browser, or paste the document")
        async for piece in answer.content.iter_chunked(256 * 1024):
            raw += piece
            if len(raw) > DOCUMENT_BYTES:
                raise MilepostError(f"{address} is larger than {DOCUMENT_BYTES // 2**20} MiB.", hint="paste a part of it")
    return bytes(raw)


def _check_seen(what: Import, made: _Made, before: Mapping[str, ToolCard]) -> None:
    """Raises Conflict for what a person has to look at first, and did not."""
    orders = [each for each in made.findings if each.excerpt]
    changed = [each.card.name for each in made.specs if each.card.name in before and before[each.card.name] != each.card]
    if (orders or (changed and what.kind == "mcp")) and not what.seen:
        why = f"{len(orders)} texts look like orders to a model" if orders else f"described otherwise: {', '.join(changed[:5])}"
        raise Conflict(
            "A person has to look at it first.", why=why, hint="POST /api/tools/import/try, and name its digest in seen"
        )


def _shown(made: _Made, before: Mapping[str, ToolCard]) -> Imported:
    cards = [each.card for each in made.specs]
    lines = (
        Line(name=card.name, title=card.title[:200], effect=card.effect, description=card.description[:300])
        for card in cards[:SHOWN]
    )
    return Imported(
        source=made.source.lane, kind=made.kind, title=made.source.title, tools=len(cards),
        effects=Counter(card.effect for card in cards), lines=tuple(lines), left_out=tuple(made.left_out[:SHOWN]),
        findings=tuple(made.findings[:SHOWN]), digest=made.digest(),
        new=sum(card.name not in before for card in cards),
        changed=sum(card.name in before and before[card.name] != card for card in cards),
    )  # fmt: skip


def _nobody(done: int) -> None:
    """Nobody watches how far it is."""
