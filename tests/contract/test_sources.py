"""What every store of sources promises, in memory and in Postgres alike; and the hosts that follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from infra.postgres.engine import connect
from infra.postgres.tool_sources import PostgresSourceStore
from runtime.memory_broker import MemoryBroker
from runtime.service import Service
from schemas.tools import ToolCard, ToolResult
from services.tools import hosting, source_shelf
from services.tools.hosting import Hosting
from services.tools.shelf import Shelf
from services.tools.source_questions import CheckLane, LaneTaken, PutSource, PutSpecs, SourceQuestions
from services.tools.source_shelf import SourceShelf
from services.tools.sources import DROPPED, MemorySourceStore, Source, SourceStore, Spec, Stored
from tool_adapters.tool import CallContext, Plan, Reconciled, Tool, ToolError

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def source(lane: str = "zoo", tenant: str = "acme", **more: object) -> Source:
    return Source.model_validate(
        {"tenant": tenant, "lane": lane, "kind": "openapi", "settings": {"z": 1, "a": 2}, "since": NOW, **more}
    )


def spec(name: str, lane: str = "zoo", **call: object) -> Spec:
    parameters = {"type": "object", "properties": {"z": {}, "a": {}}}
    return Spec(card=ToolCard(name=name, description="d", parameters=parameters, lane=lane), call=call)


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[SourceStore]:
    if request.param == "memory":
        yield MemorySourceStore()
        return
    url = request.getfixturevalue("postgres_url")
    engine, keeper = connect(url, role="milepost_service"), connect(url, role="milepost_keeper")
    yield PostgresSourceStore(engine, keeper)
    await engine.dispose()
    await keeper.dispose()


async def test_a_source_comes_back_as_it_was_put_and_put_again(store: SourceStore) -> None:
    await store.put(source())
    await store.put(source("other", tenant="rival"))
    await store.put(source(title="Zoo", since=NOW + timedelta(hours=1)))
    found = await store.sources()
    assert [(each.tenant, each.lane, each.title) for each in found] == [("acme", "zoo", "Zoo"), ("rival", "other", "")]
    assert list(found[0].settings) == ["z", "a"] and found[0].since == NOW + timedelta(hours=1)


async def test_specs_are_told_apart_by_what_they_say(store: SourceStore) -> None:
    assert await store.put_specs("acme", "zoo", [spec("a"), spec("b", n=1)]) == Stored(new=2)
    assert await store.put_specs("acme", "zoo", [spec("a"), spec("b", n=2), spec("c")]) == Stored(new=1, changed=1)
    assert await store.put_specs("acme", "zoo", []) == Stored()
    assert await store.spec("acme", "zoo", "b") == spec("b", n=2) and await store.spec("acme", "zoo", "x") is None
    found = await store.spec("acme", "zoo", "a")
    assert found and list(found.card.parameters["properties"]) == ["z", "a"]  # type: ignore[call-overload]
    assert [each.card.name async for each in store.specs("acme", "zoo")] == ["a", "b", "c"]
    assert await store.count("acme", "zoo") == 3


async def test_what_belongs_to_another_tenant_or_lane_is_neither_seen_nor_touched(store: SourceStore) -> None:
    for tenant, lane in (("acme", "zoo"), ("rival", "zoo"), ("acme", "park")):
        await store.put(source(lane, tenant))
        await store.put_specs(tenant, lane, [spec("a", lane, of=tenant)])
    assert await store.keep_only("acme", "zoo", []) == ["a"]
    await store.drop("acme", "zoo")
    found = await store.spec("rival", "zoo", "a")
    assert found and found.call == {"of": "rival"} and await store.count("acme", "park") == 1
    assert [(each.tenant, each.lane) for each in await store.sources()] == [("acme", "park"), ("rival", "zoo")]


async def test_a_range_keeps_only_what_is_named(store: SourceStore) -> None:
    await store.put_specs("acme", "zoo", [spec(name) for name in "abcdefg"])
    assert await store.keep_only("acme", "zoo", ["b", "d"], upto="d") == ["a", "c"]
    assert await store.keep_only("acme", "zoo", ["f"], after="d") == ["e", "g"]
    assert [each.card.name async for each in store.specs("acme", "zoo")] == ["b", "d", "f"]


async def test_so_much_is_dropped_at_once_and_more_the_next_time(store: SourceStore) -> None:
    many = [spec(f"t{n:05}") for n in range(DROPPED + 3)]
    await store.put_specs("acme", "zoo", many)
    assert len([each async for each in store.specs("acme", "zoo")]) == len(many)
    assert len(await store.keep_only("acme", "zoo", [])) == DROPPED
    assert await store.keep_only("acme", "zoo", []) == [each.card.name for each in many[-3:]]


# --- the shelf ------------------------------------------------------------------------------------


class Made:
    """A tool of a spec."""

    def __init__(self, card: ToolCard) -> None:
        self.card = card

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        raise NotImplementedError

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        return ToolResult(text=self.card.name)

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        raise NotImplementedError


class Opened:
    """A source in use, and what was done with it."""

    def __init__(self, source: Source) -> None:
        self.source, self.made, self.closed = source, 0, asyncio.Event()

    def tool(self, spec: Spec) -> Tool:
        if spec.call.get("broken"):
            raise ToolError("it cannot be made")
        self.made += 1
        return Made(spec.card)

    async def close(self) -> None:
        self.closed.set()


@pytest.fixture
def opened() -> list[Opened]:
    return []


@pytest.fixture
def open_source(opened: list[Opened]) -> Callable[[Source], Opened]:
    def open_(source: Source) -> Opened:
        opened.append(Opened(source))
        return opened[-1]

    return open_


async def test_a_tool_is_made_once_and_anew_after_an_import(
    opened: list[Opened], open_source: Callable[[Source], Opened]
) -> None:
    store = MemorySourceStore()
    shelf = SourceShelf(store, "zoo", open_source)
    await store.put_specs("acme", "zoo", [spec("a", n=1), spec("bad", broken=True)])
    await shelf.follow({"acme": source()})
    first = await shelf.find("acme", "a")
    assert first and await shelf.find("acme", "a") is first and opened[0].made == 1 and len(shelf) == 2
    assert await shelf.find("acme", "nothing") is None and await shelf.find("rival", "a") is None
    with pytest.raises(ToolError):
        await shelf.find("acme", "bad")
    await shelf.follow({"acme": source(since=NOW + timedelta(hours=1))})
    assert await shelf.find("acme", "a") is not first and len(opened) == 1
    await shelf.close()
    assert opened[0].closed.is_set()


async def test_other_settings_open_it_anew_and_let_calls_under_way_end(
    opened: list[Opened], open_source: Callable[[Source], Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemorySourceStore()
    shelf = SourceShelf(store, "zoo", open_source)
    await store.put_specs("acme", "zoo", [spec("a")])
    await shelf.follow({"acme": source()})
    await shelf.find("acme", "a")
    await shelf.follow({"acme": source(settings={"z": 2})})
    await shelf.find("acme", "a")
    assert len(opened) == 2 and not opened[0].closed.is_set()
    monkeypatch.setattr(source_shelf, "RETIRED_S", 0.0)
    await shelf.follow({})
    async with asyncio.timeout(5):
        await opened[1].closed.wait()
    await shelf.close()
    assert opened[0].closed.is_set()


async def test_no_more_tools_stay_made_than_so_many(
    opened: list[Opened], open_source: Callable[[Source], Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_shelf, "KEPT", 2)
    store = MemorySourceStore()
    shelf = SourceShelf(store, "zoo", open_source)
    await store.put_specs("*", "zoo", [spec(name) for name in "abc"])
    await shelf.follow({"*": source(tenant="*")})
    for name in "abac":
        assert await shelf.find("acme", name)
    assert opened[0].made == 3 and await shelf.find("acme", "b") and opened[0].made == 4


# --- hosts ----------------------------------------------------------------------------------------


class Hosts:
    """What is hosted now."""

    def __init__(self) -> None:
        self.shelves: dict[str, Shelf] = {}
        self.begun: list[str] = []
        self.changed = asyncio.Condition()
        self.fail: set[str] = set()

    async def host(self, shelf: Shelf, lane: str) -> None:
        await self._note(lane, shelf)
        try:
            if lane in self.fail:
                self.fail.discard(lane)
                raise ToolError("it fell over")
            await asyncio.Event().wait()
        finally:
            await self._note(lane, None)

    async def _note(self, lane: str, shelf: Shelf | None) -> None:
        async with self.changed:
            if shelf is not None:
                self.begun.append(lane)
                self.shelves[lane] = shelf
            else:
                self.shelves.pop(lane)
            self.changed.notify_all()

    async def are(self, *lanes: str, begun: int = 0) -> None:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: set(self.shelves) == set(lanes) and len(self.begun) >= begun)


async def test_hosts_begin_and_end_as_sources_come_and_go(
    open_source: Callable[[Source], Opened], opened: list[Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "AGAIN_S", 0.01)
    store, bus, hosts = MemorySourceStore(), MemoryBroker(), Hosts()
    service = Service("tools", "answers")
    questions = SourceQuestions(store, bus, frozenset({"builtin"}))
    questions.answer(service)
    await store.put(source("early"))
    every = Hosting(store, bus, open_source, hosts.host)
    ready = asyncio.Event()
    work = asyncio.create_task(every.run(ready))
    await ready.wait()
    await hosts.are("early")

    put = PutSpecs(tenant="acme", lane="zoo", specs=(spec("a"),)).model_dump_json().encode()
    assert Stored.model_validate_json(await questions.put_specs(put)).new == 1
    await questions.put_source(PutSource(source=source()).model_dump_json().encode())
    await hosts.are("early", "zoo")
    found = await hosts.shelves["zoo"].find("acme", "a")
    assert found and found.card.name == "a" and every.lanes() == ["early", "zoo"]

    await store.put(source(tenant="rival"))
    await store.drop("acme", "early")
    await bus.tell("mp.sources.acme", b"")
    await hosts.are("zoo")
    assert len(hosts.begun) == 2, "one host answers a lane for all its tenants"

    hosts.fail.add("park")
    await questions.put_source(PutSource(source=source("park")).model_dump_json().encode())
    await hosts.are("zoo", "park", begun=4)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert hosts.shelves == {} and all(each.closed.is_set() for each in opened)


async def test_a_lane_of_the_stack_or_of_another_kind_is_not_given_away() -> None:
    store = MemorySourceStore()
    questions = SourceQuestions(store, MemoryBroker(), frozenset({"builtin"}))
    await store.put(source(kind="mcp"))
    for lane in ("builtin", "zoo"):
        with pytest.raises(LaneTaken):
            await questions.check_lane(CheckLane(tenant="acme", lane=lane, kind="openapi").model_dump_json().encode())
    assert await questions.check_lane(CheckLane(tenant="rival", lane="zoo", kind="openapi").model_dump_json().encode()) == b"{}"
