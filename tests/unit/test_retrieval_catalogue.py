"""The catalogue that cards make up, in virtual time: beats, silence, names, refusals, vectors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import orjson
import pytest

from runtime.errors import Retryable, Unreachable
from runtime.memory_broker import MemoryBroker
from runtime.service import Context
from schemas import subjects
from schemas.commands import SelectTools
from schemas.envelope import new_order, source_of
from schemas.errors import MilepostError, ProtocolError
from schemas.events import ToolsSelected
from schemas.ids import CommandId
from schemas.tools import Beat, Refusal, ToolCard, Value
from services.retrieval.catalogue import CONTENDS_S
from services.retrieval.catalogue_questions import (
    FindTools,
    FoundTool,
    GetTools,
    KnownTool,
    ListTools,
    Registered,
    RegisterTool,
    RegisterTools,
    Removed,
    RemoveTools,
    ToolList,
)
from services.retrieval.embedder import HashEmbedder, Kind
from services.retrieval.hosts import AWAY_S
from services.retrieval.memory_tool_index import MemoryToolIndex
from services.retrieval.questions import ANSWER_BYTES
from services.retrieval.selection import Selection
from services.retrieval.tool_index import Put, Vector
from tests.support.builders import NOW, run_of
from tests.support.simulation import LoopClock, in_virtual_time

OBJECT = {"type": "object", "properties": {"InstanceId": {"type": "string"}}}


def card(name: str, *, lane: str = "mine", description: str = "", **fields: object) -> ToolCard:
    said = {"name": name, "description": description or f"does {name}", "parameters": OBJECT, "lane": lane}
    return ToolCard.model_validate({**said, **fields})


class CountingEmbedder(HashEmbedder):
    """Notes what it embeds; `slow` seconds a batch."""

    def __init__(self, slow: float = 0.0) -> None:
        self.passages: list[str] = []
        self.slow = slow

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        if kind == "passage":
            self.passages.extend(texts)
            await asyncio.sleep(self.slow)
        return await super().embed(texts, kind)


class Retrieval:
    """One process that keeps the catalogue, over a bus and an index that others may share."""

    def __init__(
        self, bus: MemoryBroker, index: MemoryToolIndex, name: str = "one", embedder: HashEmbedder | None = None
    ) -> None:
        self.bus, self.index = bus, index
        self.selection = Selection(index, embedder or HashEmbedder(), LoopClock(), name)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Retrieval]:
        task = asyncio.create_task(self.selection.follow_cards(self.bus))
        await asyncio.sleep(0.01)
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def ask(self, verb: str, question: Value) -> bytes:
        return await self.selection.answers[verb](question.model_dump_json().encode())

    async def listed(self, **which: object) -> ToolList:
        return ToolList.model_validate_json(await self.ask("list_tools", ListTools.model_validate(which)))

    async def presence(self, name: str) -> str:
        (known,) = orjson.loads(await self.ask("get_tools", GetTools(names=(name,))))
        return KnownTool.model_validate(known).presence

    async def select(
        self, query: str, *, always: tuple[str, ...] = (), forbidden: tuple[str, ...] = (), k: int = 3
    ) -> list[str]:
        return [each.card.name for each in (await self.selected(query, always=always, forbidden=forbidden, k=k)).tools]

    async def selected(self, query: str, **which: object) -> ToolsSelected:
        command = SelectTools.model_validate({"always": (), "forbidden": (), "k": 3, **which})
        event = await self.selection.select(command, _context(command, query))
        assert isinstance(event, ToolsSelected)
        return event


def _context(command: SelectTools, query: str) -> Context:
    order = new_order(
        command, id=CommandId("c" * 32), run=run_of(), tenant="default", source=source_of("conductor", "test"), time=NOW,
        causes=("e" * 32,), material={"query": query},
    )  # fmt: skip

    async def never(*_: object) -> bool:
        raise AssertionError

    return Context(order, 1, never, never)


@asynccontextmanager
async def retrieval(**fields: object) -> AsyncIterator[Retrieval]:
    async with Retrieval(MemoryBroker(), MemoryToolIndex(), **fields).running() as one:
        yield one


async def beat(bus: MemoryBroker, lane: str, told: Beat | None = None) -> None:
    await bus.tell(subjects.beat(lane), told.model_dump_json().encode() if told else b"")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):  # virtual seconds
        while not holds():
            await asyncio.sleep(0.1)


# --- hosts that live and fall silent ------------------------------------------------------------------


@in_virtual_time
async def test_a_published_card_is_offered_at_once_and_its_arrival_is_a_beat() -> None:
    async with retrieval() as one:
        await one.bus.publish_card("default", card("renew_server"))
        await asyncio.sleep(0.5)
        assert await one.select("renew the server") == ["renew_server"]


@in_virtual_time
async def test_the_tools_of_a_silent_host_are_not_offered_and_come_back_with_its_next_beat() -> None:
    async with retrieval() as one:
        await one.bus.publish_card("default", card("renew_server"))
        await asyncio.sleep(AWAY_S - 0.5)
        assert await one.select("renew the server") == ["renew_server"]
        await asyncio.sleep(1.0)
        assert await one.select("renew the server") == []
        assert await one.presence("renew_server") == "away"
        await beat(one.bus, "mine")
        assert await one.select("renew the server") == ["renew_server"]


@in_virtual_time
async def test_a_tool_that_is_always_offered_waits_for_its_host_and_says_which() -> None:
    async with retrieval() as one:
        await one.bus.publish_card("default", card("renew_server"))
        await asyncio.sleep(AWAY_S + 1)
        with pytest.raises(Retryable) as caught:
            await one.select("anything", always=("renew_server",))
        assert "renew_server" in caught.value.what and "mine is away" in caught.value.why
        await beat(one.bus, "mine")
        assert await one.select("anything", always=("renew_server",), k=0) == ["renew_server"]


@in_virtual_time
async def test_imported_tools_are_found_but_not_offered_until_somebody_answers_them() -> None:
    async with retrieval() as one:
        await one.ask("register_tools", RegisterTools(cards=(card("renew_server", lane="catalogue"),)))
        (found,) = orjson.loads(await one.ask("find_tools", FindTools(text="renew the server")))
        assert FoundTool.model_validate(found).presence == "no host"
        assert await one.select("renew the server") == []
        with pytest.raises(Retryable, match="no host answers"):
            await one.select("renew", always=("renew_server",))
        await beat(one.bus, "catalogue")
        assert await one.select("renew the server") == ["renew_server"]


@in_virtual_time
async def test_many_tools_without_a_host_do_not_crowd_out_one_that_has_one() -> None:
    async with retrieval() as one:
        imported = tuple(
            card(f"renew_server_{number}", lane="catalogue", description="renew the server") for number in range(200)
        )
        await one.ask("register_tools", RegisterTools(cards=imported))
        await one.bus.publish_card("default", card("extend", description="extend a machine"))
        await asyncio.sleep(0.5)
        assert await one.select("renew the server") == ["extend"]


@in_virtual_time
async def test_who_begins_to_listen_gives_known_hosts_time_to_beat() -> None:
    bus, index = MemoryBroker(), MemoryToolIndex()
    async with Retrieval(bus, index).running() as before:
        await bus.publish_card("default", card("renew_server"))
        await asyncio.sleep(2.0)
        assert await before.presence("renew_server") == "here"
    await asyncio.sleep(60)
    async with Retrieval(bus, index, "two").running() as after:
        assert await after.presence("renew_server") == "here"
        await asyncio.sleep(AWAY_S + 0.1)
        assert await after.presence("renew_server") == "away"


@in_virtual_time
async def test_busy_and_failing_hosts_are_told_by_their_beats() -> None:
    async with retrieval() as one:
        await one.bus.publish_card("default", card("renew_server", lane="sick"))
        await one.bus.publish_card("default", card("renew_servers", lane="well"))
        await one.bus.publish_card("default", card("sing", lane="well"))
        await asyncio.sleep(0.5)
        await beat(one.bus, "sick", Beat(queue=100, failing=1.0))
        selected = await one.selected("renew_server")
        assert [each.card.name for each in selected.tools] == ["renew_servers", "renew_server", "sing"]
        assert selected.tools[1].why["health"] == 0.5


# --- names ----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_name_stays_with_the_first_host_that_lives_and_the_other_is_told() -> None:
    async with retrieval() as one:
        told: list[Refusal] = []

        async def hear(_: str, raw: bytes) -> None:
            told.append(Refusal.model_validate_json(raw))

        await one.bus.publish_card("default", card("renew", lane="first"))
        await asyncio.sleep(0.5)
        async with one.bus.hear(subjects.refused_of("second"), hear):
            await one.bus.publish_card("default", card("renew", lane="second"))
            await until(lambda: bool(told))
        assert (told[0].tool, told[0].holder) == ("renew", "first")
        page = await one.listed()
        assert [(each.name, each.lane) for each in page.tools] == [("renew", "first")]
        assert [(each.tool, each.lane) for each in page.refused] == [("renew", "second")]


@in_virtual_time
async def test_the_other_host_gets_the_name_when_the_first_falls_silent() -> None:
    async with retrieval() as one:
        await one.bus.publish_card("default", card("renew", lane="first"))
        await asyncio.sleep(0.5)
        await one.bus.publish_card("default", card("renew", lane="second"))
        for _ in range(10):
            await asyncio.sleep(2.0)
            await beat(one.bus, "second")
        assert [each.lane for each in (await one.listed()).tools] == ["second"]
        assert [(each.lane, each.holder) for each in (await one.listed()).refused] == [("first", None)]


@in_virtual_time
async def test_a_host_that_waits_for_a_name_and_dies_does_not_get_it() -> None:
    async with retrieval() as one:
        await one.bus.publish_card("default", card("renew", lane="first"))
        await asyncio.sleep(0.5)
        await one.bus.publish_card("default", card("renew", lane="second"))
        for _ in range(10):
            await asyncio.sleep(2.0)
            await beat(one.bus, "first")
        await asyncio.sleep(AWAY_S + 3 * CONTENDS_S)
        assert [each.lane for each in (await one.listed()).tools] == ["first"]


@in_virtual_time
async def test_a_withdrawn_name_is_free_and_a_withdrawal_by_another_host_changes_nothing() -> None:
    async with retrieval() as one:
        await one.bus.publish_card("default", card("renew", lane="first"))
        await one.bus.withdraw_card("default", card("renew", lane="second"))
        await asyncio.sleep(0.5)
        assert [each.lane for each in (await one.listed()).tools] == ["first"]
        await one.bus.withdraw_card("default", card("renew", lane="first"))
        await one.bus.publish_card("default", card("renew", lane="second"))
        await asyncio.sleep(0.5)
        assert [each.lane for each in (await one.listed()).tools] == ["second"]


@in_virtual_time
async def test_a_tenant_may_have_its_own_tool_of_a_shared_name() -> None:
    async with retrieval() as one:
        await one.bus.publish_card("*", card("renew", lane="everybodys"))
        await one.bus.publish_card("default", card("renew", lane="own"))
        await asyncio.sleep(0.5)
        page = await one.listed()
        assert [each.lane for each in page.tools] == ["own"]
        assert page.refused == ()


@in_virtual_time
async def test_an_import_does_not_take_the_name_of_a_host_but_a_host_takes_that_of_an_import() -> None:
    async with retrieval() as one:
        await one.bus.publish_card("default", card("renew", lane="host"))
        await asyncio.sleep(AWAY_S + 1)  # even of one that is away
        imported = RegisterTools(cards=(card("renew", lane="catalogue"), card("stop", lane="catalogue")))
        said = Registered.model_validate_json(await one.ask("register_tools", imported))
        assert (said.changed, [each.tool for each in said.refused]) == (1, ["renew"])
        await one.bus.publish_card("default", card("stop", lane="host"))
        await asyncio.sleep(0.5)
        assert {each.lane for each in (await one.listed()).tools} == {"host"}


# --- cards that are none ----------------------------------------------------------------------------------


BAD: list[tuple[dict[str, object], str]] = [
    ({"parameters": {"type": "string"}}, "no schema of an object"),
    ({"parameters": {}}, "no schema of an object"),
    ({"parameters": {"type": "object", "properties": []}}, "no JSON Schema"),
    ({"parameters": {"type": "object", "properties": {"a": {"type": "text"}}}}, "no JSON Schema"),
    ({"parameters": {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}}, "no JSON Schema"),
    ({"parameters": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}}, "no JSON Schema"),
    ({"parameters": {"type": "object", "properties": {"a": {"pattern": "("}}}}, "no JSON Schema"),
    ({"parameters": {"type": "object", "description": "x" * 70_000}}, "the limit is"),
]


@pytest.mark.parametrize(("fields", "why"), BAD)
def test_a_bad_card_is_refused_early_and_told_to_who_asks(fields: dict[str, object], why: str) -> None:
    @in_virtual_time
    async def play() -> None:
        async with retrieval() as one:
            with pytest.raises(MilepostError, match=why) as caught:
                await one.ask("register_tool", RegisterTool(card=card("bad", **fields)))
            assert caught.value.hint
            assert (await one.listed()).tools == ()

    play()


@in_virtual_time
async def test_a_bad_card_among_good_ones_is_refused_alone_and_stays_visible() -> None:
    async with retrieval() as one:
        cards = (card("good"), card("bad", parameters={"type": "array"}), card("better"))
        said = Registered.model_validate_json(await one.ask("register_tools", RegisterTools(cards=cards)))
        assert (said.changed, [each.tool for each in said.refused]) == (2, ["bad"])
        await one.bus.publish_card("default", card("worse", parameters={"type": "array"}))
        await asyncio.sleep(0.5)
        assert {each.tool for each in (await one.listed()).refused} == {"bad", "worse"}
        await one.bus.publish_card("default", card("worse"))
        await asyncio.sleep(0.5)
        assert {each.tool for each in (await one.listed()).refused} == {"bad"}


@in_virtual_time
async def test_a_question_with_a_card_that_is_none_is_refused() -> None:
    async with retrieval() as one:
        with pytest.raises(ProtocolError, match="RegisterTool"):
            await one.selection.answers["register_tool"](
                b'{"card": {"name": "has spaces", "description": "", "parameters": {}}}'
            )


@in_virtual_time
async def test_a_registered_tool_is_offered_while_its_host_beats() -> None:
    async with retrieval() as one:
        said = Registered.model_validate_json(await one.ask("register_tool", RegisterTool(card=card("renew"))))
        assert said.changed == 1
        assert await one.select("renew") == ["renew"]


# --- requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "\u200f\u202e", "!?…", "\x01\x02\x03", "🙂🙂"])
def test_a_request_that_says_nothing_finds_nothing(text: str) -> None:
    @in_virtual_time
    async def play() -> None:
        async with retrieval() as one:
            await one.bus.publish_card("default", card("renew"))
            await asyncio.sleep(0.5)
            assert await one.select(text) == []
            assert await one.ask("find_tools", FindTools(text=text)) == b"[]"

    play()


@pytest.mark.parametrize(
    "text",
    [
        "renew " + "x" * 90_000,
        "要续费 renew تجديد الخادم",
        "\u202eתחדש את השרת renew",
        "re\x00new renew",
        "renew \U0001f600 \ufffd \u0301",
    ],
    ids=["huge", "mixed", "rtl", "nul", "odd"],
)
def test_a_strange_request_is_searched_with_what_it_says(text: str) -> None:
    @in_virtual_time
    async def play() -> None:
        async with retrieval() as one:
            await one.bus.publish_card("default", card("renew"))
            await asyncio.sleep(0.5)
            assert await one.select(text) == ["renew"]

    play()


@in_virtual_time
async def test_a_question_that_is_too_long_is_refused() -> None:
    async with retrieval() as one:
        with pytest.raises(ProtocolError):
            await one.selection.answers["find_tools"](orjson.dumps({"text": "x" * 20_001}))


# --- lists ------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_list_comes_page_by_page_and_every_tool_once() -> None:
    async with retrieval() as one:
        cards = [card(f"tool_{number:04}", effect="write" if number % 7 == 0 else "read") for number in range(1200)]
        for at in range(0, 1200, 400):
            await one.ask("register_tools", RegisterTools(cards=tuple(cards[at : at + 400])))
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await one.listed(after=after, limit=500)
            seen += [each.name for each in page.tools]
            after = page.after
        assert seen == [each.name for each in cards]
        assert len((await one.listed(effect="write", limit=500)).tools) == 172
        assert [each.name for each in (await one.listed(text="OOL_0042")).tools] == ["tool_0042"]
        assert (await one.listed(lane="nobody")).tools == ()


@in_virtual_time
async def test_no_answer_comes_near_the_limit_of_a_message() -> None:
    async with retrieval() as one:
        large = [card(f"renew_{number}", parameters={**OBJECT, "description": "x" * 50_000}) for number in range(40)]
        for each in large:
            await one.ask("register_tools", RegisterTools(cards=(each,)))
        for raw in (
            await one.ask("find_tools", FindTools(text="renew", k=40)),
            await one.ask("get_tools", GetTools(names=tuple(each.name for each in large))),
            await one.ask("list_tools", ListTools(limit=500)),
        ):
            assert len(raw) < ANSWER_BYTES + 60_000


@in_virtual_time
async def test_tools_are_taken_out_only_when_nobody_answers_them() -> None:
    async with retrieval() as one:
        await one.bus.publish_card("default", card("live"))
        imported = tuple(card(f"imported_{number}", lane="catalogue") for number in range(600))
        for at in (0, 300):
            await one.ask("register_tools", RegisterTools(cards=imported[at : at + 300]))
        await asyncio.sleep(0.5)
        for which in (RemoveTools(names=("live",)), RemoveTools(lane="mine")):
            with pytest.raises(MilepostError, match="mine lives"):
                await one.ask("remove_tools", which)
        gone = Removed.model_validate_json(await one.ask("remove_tools", RemoveTools(names=("imported_7", "unknown"))))
        assert [each.name for each in gone.tools] == ["imported_7"]
        count, after = 0, ""
        while after is not None:
            said = Removed.model_validate_json(await one.ask("remove_tools", RemoveTools(lane="catalogue", after=after)))
            count, after = count + len(said.tools), said.after
        assert count == 599
        assert [each.name for each in (await one.listed()).tools] == ["live"]


class SlowIndex(MemoryToolIndex):
    """An index that answers late enough for two processes to look before either has put anything in."""

    async def own(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        found = await super().own(tenant, names)
        await asyncio.sleep(0.01)
        return found


@in_virtual_time
async def test_of_two_hosts_that_take_a_name_at_once_in_two_processes_one_is_refused() -> None:
    bus, index = MemoryBroker(), SlowIndex()
    async with Retrieval(bus, index, "one").running() as one, Retrieval(bus, index, "two").running() as two:
        for lane in ("first", "second"):
            await bus.tell(subjects.beat(lane), b"")
        asked = [RegisterTool(card=card("renew", lane=lane)) for lane in ("first", "second")]
        answers = await asyncio.gather(
            *(each.ask("register_tool", question) for each, question in zip((one, two), asked, strict=True)),
            return_exceptions=True,
        )
        assert [isinstance(answer, Retryable) for answer in answers] == [False, True]
        with pytest.raises(MilepostError, match="taken by the host first"):
            await two.ask("register_tool", asked[1])
        assert [each.lane for each in await index.get("default", ["renew"])] == ["first"]


# --- the index goes away, and vectors follow ----------------------------------------------------------------


class AbsentIndex(MemoryToolIndex):
    """An index that is away while `away` is set."""

    away = False

    async def put(
        self, tenant: str, cards: Sequence[ToolCard], vectors: Mapping[str, Vector] | None = None,
        holders: Mapping[str, str] | None = None,
    ) -> Put:  # fmt: skip
        if self.away:
            raise Unreachable("The database does not answer.")
        return await super().put(tenant, cards, vectors, holders)


@in_virtual_time
async def test_cards_that_come_while_the_index_is_away_are_taken_in_when_it_is_back() -> None:
    index = AbsentIndex()
    async with Retrieval(MemoryBroker(), index).running() as one:
        index.away = True
        for number in range(5):
            await one.bus.publish_card("default", card(f"tool_{number}"))
        with pytest.raises(Unreachable):
            await one.ask("register_tool", RegisterTool(card=card("asked")))
        await asyncio.sleep(5.0)
        assert (await one.listed()).tools == ()
        index.away = False
        await asyncio.sleep(3.0)
        assert len((await one.listed()).tools) == 5


@in_virtual_time
async def test_a_single_new_card_has_its_vector_before_those_of_a_long_import() -> None:
    embedder = CountingEmbedder(slow=0.2)
    async with retrieval(embedder=embedder) as one:
        for at in range(4):
            imported = tuple(card(f"imported_{at}_{number}", lane="catalogue") for number in range(250))
            await one.ask("register_tools", RegisterTools(cards=imported))
        await asyncio.sleep(1.0)
        await one.bus.publish_card("default", card("fresh"))
        await one.ask("register_tools", RegisterTools(cards=tuple(card(f"later_{n}", lane="catalogue") for n in range(100))))
        await asyncio.sleep(0.5)
        assert any("does fresh" in text for text in embedder.passages)
        assert (await one.listed()).state.unembedded > 900
        await asyncio.sleep(60)
        assert (await one.listed()).state.unembedded == 0
        assert len(embedder.passages) == len(set(embedder.passages)) == 1101


@in_virtual_time
async def test_a_single_new_card_has_its_vector_before_those_of_many_that_came_one_by_one() -> None:
    embedder = CountingEmbedder(slow=0.2)
    async with retrieval(embedder=embedder) as one:
        for number in range(400):
            await one.ask("register_tool", RegisterTool(card=card(f"slowly_{number}")))
        await one.bus.publish_card("default", card("fresh"))
        await asyncio.sleep(0.9)
        assert any("does fresh" in text for text in embedder.passages)
        await asyncio.sleep(60)
        assert (await one.listed()).state.unembedded == 0
        assert len(embedder.passages) == len(set(embedder.passages)) == 401


@in_virtual_time
async def test_several_processes_share_the_embedding_and_one_that_died_loses_nothing() -> None:
    bus, index = MemoryBroker(), MemoryToolIndex()
    first, second = CountingEmbedder(slow=0.2), CountingEmbedder(slow=0.2)
    async with Retrieval(bus, index, "two", second).running():
        async with Retrieval(bus, index, "one", first).running() as one:
            await one.ask("register_tools", RegisterTools(cards=tuple(card(f"tool_{n}", lane="c") for n in range(400))))
            await asyncio.sleep(6.0)
            assert first.passages and second.passages
            assert not set(first.passages) & set(second.passages)
        await asyncio.sleep(60)
        assert (await index.state("default")).unembedded == 0
