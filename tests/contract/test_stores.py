"""What every store promises, in memory and in Postgres alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.conversations import PostgresConversationStore
from infra.postgres.effects import PostgresEffectLedger
from infra.postgres.engine import connect
from infra.postgres.knowledge_index import PostgresKnowledgeIndex
from infra.postgres.run_index import PostgresRunIndex
from infra.postgres.tool_index import PostgresToolIndex
from schemas.events import Turn
from schemas.tools import ToolCard
from services.memory.memory_store import MemoryConversationStore
from services.memory.ports import Begun, ConversationStore, OtherConversation, Queued, Refused, TurnBegin
from services.recorder.memory_index import MemoryRunIndex
from services.recorder.ports import EventRow, RunFilter, RunIndex, RunSummary, Watermark
from services.retrieval.chunks import Chunk, chunk
from services.retrieval.embedder import HashEmbedder
from services.retrieval.memory_index import MemoryKnowledgeIndex, MemoryToolIndex
from services.retrieval.ports import SHARED, KnowledgeIndex, ToolIndex, VectorsMissing
from services.retrieval.words import card_text
from services.tools.ledger import Claim, Claimed, Done, EffectLedger, InProgress, MemoryEffectLedger, Mine, NotYours

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=10)
LATER = NOW + timedelta(hours=1)

EMBEDDER = HashEmbedder()


@dataclass
class Stores:
    tools: ToolIndex
    knowledge: KnowledgeIndex
    conversations: ConversationStore
    runs: RunIndex
    ledger: EffectLedger


def stores_in_postgres(engine: AsyncEngine) -> Stores:
    return Stores(
        PostgresToolIndex(engine, EMBEDDER.name),
        PostgresKnowledgeIndex(engine, EMBEDDER.name),
        PostgresConversationStore(engine),
        PostgresRunIndex(engine),
        PostgresEffectLedger(engine),
    )


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield Stores(
            MemoryToolIndex(), MemoryKnowledgeIndex(), MemoryConversationStore(), MemoryRunIndex(), MemoryEffectLedger()
        )
        return
    engine = connect(request.getfixturevalue("postgres_url"))
    yield stores_in_postgres(engine)
    await engine.dispose()


# --- tools ---


def card(name: str, description: str, *parameters: str, **fields: object) -> ToolCard:
    schema = {"type": "object", "properties": {parameter: {"type": "string"} for parameter in parameters}}
    return ToolCard.model_validate({"name": name, "description": description, "parameters": schema, **fields})


CARDS = [
    card("RenewInstance", "Renews a subscription ECS instance. 为包年包月的 ECS 实例续费。", "InstanceId", "Period"),
    card("StopInstance", "Stops a running ECS instance. 停止一台运行中的实例。", "InstanceId"),
    card("DescribeInstances", "Queries the details of ECS instances. 查询实例列表。", "RegionId"),
    card("calculator", "Computes the value of an arithmetic expression. 计算算式。", "expression"),
    card("get_weather", "Tells the weather of a city. 查询城市的天气预报。", "city"),
    card("http_get", "Fetches a web page by its address. 读取网页。", "url"),
]


async def add(index: ToolIndex, *cards: ToolCard, tenant: str = SHARED) -> None:
    vectors = await EMBEDDER.embed([card_text(each) for each in cards], "passage")
    for each, vector in zip(cards, vectors, strict=True):
        await index.upsert(tenant, each, vector)


async def found(index: ToolIndex, text: str, tenant: str = "acme", k: int = 3, *exclude: str) -> list[str]:
    (vector,) = await EMBEDDER.embed([text], "query")
    return [hit.card.name for hit in await index.search(tenant, text, vector, k, exclude)]


@pytest.mark.parametrize(
    ("request_", "tool"),
    [
        ("Please help me renew my ECS instance for 3 months", "RenewInstance"),
        ("请帮我把 ECS 实例续费三个月", "RenewInstance"),
        ("what is the weather in Hangzhou", "get_weather"),
        ("杭州明天天气怎么样", "get_weather"),
        ("renewinstnce", "RenewInstance"),
        ("compute this arithmetic expression", "calculator"),
    ],
)
async def test_the_tool_for_a_request_comes_first(stores: Stores, request_: str, tool: str) -> None:
    await add(stores.tools, *CARDS)
    assert (await found(stores.tools, request_))[0] == tool


async def test_a_card_without_a_vector_is_found_by_its_words(stores: Stores) -> None:
    await add(stores.tools, *CARDS)
    await stores.tools.upsert(SHARED, card("TranslateText", "Translates a text into another language. 翻译文本。"), None)
    assert (await found(stores.tools, "translate this text"))[0] == "TranslateText"
    assert (await stores.tools.search("acme", "翻译", None, 3))[0].card.name == "TranslateText"


async def test_a_found_card_says_why(stores: Stores) -> None:
    await add(stores.tools, *CARDS)
    (vector,) = await EMBEDDER.embed(["RenewInstance i-bp1"], "query")
    best, *_ = await stores.tools.search("acme", "RenewInstance i-bp1", vector, 3)
    assert best.why.keys() == {"dense", "lexical", "name", "rrf_dense", "rrf_lexical", "rrf_name"}
    assert best.why["name"] == pytest.approx(1.0)
    assert best.why["dense"] == pytest.approx(
        sum(a * b for a, b in zip(vector, await vector_of(best.card), strict=True)), abs=1e-5
    )
    assert best.score == pytest.approx(sum(part for name, part in best.why.items() if name.startswith("rrf_")))
    assert best.score == pytest.approx(3 / 61)


async def vector_of(tool: ToolCard) -> list[float]:
    return (await EMBEDDER.embed([card_text(tool)], "passage"))[0]


async def test_a_found_card_is_the_card_that_was_put_in(stores: Stores) -> None:
    wide = card("odd", "数 \\ ' \" %s $1 :x {}", "zebra", "alpha", "Mitte", effect="write", examples=("a", "b"))
    await add(stores.tools, wide)
    (back,) = await stores.tools.get("acme", ["odd"])
    assert back.model_dump_json() == wide.model_dump_json()


async def test_excluded_tools_are_not_found(stores: Stores) -> None:
    await add(stores.tools, *CARDS)
    names = await found(stores.tools, "renew instance", "acme", 6, "RenewInstance", "StopInstance")
    assert names and not {"RenewInstance", "StopInstance"} & set(names)


async def test_a_tenant_sees_shared_tools_and_its_own_but_no_others(stores: Stores) -> None:
    await add(stores.tools, *CARDS[:2])
    await add(stores.tools, card("RenewDomain", "Renews a domain."), tenant="acme")
    assert [each.name for each in await stores.tools.all("acme")] == ["RenewDomain", "RenewInstance", "StopInstance"]
    assert [each.name for each in await stores.tools.all("other")] == ["RenewInstance", "StopInstance"]
    assert "RenewDomain" in await found(stores.tools, "renew domain", "acme")
    assert "RenewDomain" not in await found(stores.tools, "renew domain", "other")
    assert await stores.tools.get("other", ["RenewDomain", "StopInstance"]) == [CARDS[1]]


async def test_a_tenants_own_tool_comes_in_place_of_the_shared_one(stores: Stores) -> None:
    own = card("RenewInstance", "Renews an instance, as acme does it.")
    await add(stores.tools, *CARDS)
    await add(stores.tools, own, tenant="acme")
    (vector,) = await EMBEDDER.embed(["renew instance"], "query")
    hits = [hit.card for hit in await stores.tools.search("acme", "renew instance", vector, 6) if hit.card.name == own.name]
    assert hits == [own]
    assert await stores.tools.get("acme", [own.name]) == [own]
    assert own in await stores.tools.all("acme")
    assert await stores.tools.get("other", [own.name]) == [CARDS[0]]


async def test_get_keeps_the_order_that_was_asked_for(stores: Stores) -> None:
    await add(stores.tools, *CARDS)
    asked = ["http_get", "nothing", "calculator", "http_get"]
    assert [each.name for each in await stores.tools.get("acme", asked)] == ["http_get", "calculator"]


async def test_a_removed_tool_is_gone(stores: Stores) -> None:
    await add(stores.tools, *CARDS)
    await stores.tools.remove(SHARED, "RenewInstance")
    await stores.tools.remove(SHARED, "RenewInstance")
    assert "RenewInstance" not in await found(stores.tools, "renew instance", k=6)


async def test_missing_names_new_changed_and_vectorless_cards(stores: Stores) -> None:
    await add(stores.tools, *CARDS[:2])
    await stores.tools.upsert(SHARED, CARDS[2], None)
    changed = CARDS[1].model_copy(update={"description": "changed"})
    assert await stores.tools.missing(SHARED, [CARDS[0], changed, CARDS[2], CARDS[3]]) == {
        "StopInstance",
        "DescribeInstances",
        "calculator",
    }


async def test_putting_an_equal_card_in_again_keeps_its_vector(stores: Stores) -> None:
    await add(stores.tools, CARDS[0])
    await stores.tools.upsert(SHARED, CARDS[0], None)
    assert await stores.tools.missing(SHARED, [CARDS[0]]) == set()
    await stores.tools.upsert(SHARED, CARDS[0].model_copy(update={"description": "changed"}), None)
    assert await stores.tools.missing(SHARED, [CARDS[0]]) == {"RenewInstance"}


@pytest.mark.parametrize("text", ["", " ", "'; DROP TABLE tool_cards --", "\\' & | ! <-> :*", "مرحبا", "😀", "a" * 20_000])
async def test_any_text_can_be_searched(stores: Stores, text: str) -> None:
    await add(stores.tools, *CARDS)
    assert len(await found(stores.tools, text, k=2)) == 2
    assert await stores.tools.search("acme", text, None, 2) is not None


# --- knowledge ---

GUIDE = """# ECS guide

Elastic Compute Service runs virtual servers.

## Renewal

A subscription instance can be renewed for 1 to 60 months before it expires. Order id o-77x4 is an example.

## 停机

按量付费的实例停机后不再收取计算费用。
"""

FAQ = "Backups are taken every night at two and kept for thirty days.\n"


async def learn(
    index: KnowledgeIndex, source: str, text: str, tenant: str = "acme", collection: str = "default"
) -> tuple[int, int, int]:
    chunks = chunk(source, text, capacity=30)
    new = await index.missing(tenant, collection, source, chunks)
    fresh = [each for each in chunks if each.hash in new]
    vectors = await EMBEDDER.embed([each.to_embed() for each in fresh], "passage")
    by_hash = {each.hash: vector for each, vector in zip(fresh, vectors, strict=True)}
    added = await index.add_document(tenant, collection, source, source.upper(), chunks, by_hash, NOW)
    return added.kept, added.added, added.removed


async def known(index: KnowledgeIndex, text: str, *collections: str, tenant: str = "acme") -> list[str]:
    (vector,) = await EMBEDDER.embed([text], "query")
    return [hit.text for hit in await index.search(tenant, collections or ("default",), text, vector, 2)]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("for how many months can an instance be renewed", "60 months"),
        ("停机以后还收费吗", "按量付费"),
        ("what is o-77x4", "o-77x4"),
        ("when are backups taken", "every night"),
    ],
)
async def test_the_passage_for_a_question_comes_first(stores: Stores, question: str, answer: str) -> None:
    await learn(stores.knowledge, "guide.md", GUIDE)
    await learn(stores.knowledge, "faq.txt", FAQ)
    assert answer in (await known(stores.knowledge, question))[0]


async def test_a_passage_says_exactly_where_it_stands(stores: Stores) -> None:
    await learn(stores.knowledge, "guide.md", GUIDE)
    (vector,) = await EMBEDDER.embed(["renewed for months"], "query")
    best, *_ = await stores.knowledge.search("acme", ["default"], "renewed for months", vector, 2)
    assert GUIDE[best.start : best.end] == best.text
    assert (best.title, best.heading) == ("GUIDE.MD", "ECS guide > Renewal")
    assert best.score > 0


async def test_a_changed_document_replaces_only_what_changed(stores: Stores) -> None:
    kept, added, removed = await learn(stores.knowledge, "guide.md", GUIDE)
    assert (kept, removed) == (0, 0) and added >= 3
    changed = "An opening line that moves everything.\n\n" + GUIDE.replace("60 months", "36 months")
    again = await learn(stores.knowledge, "guide.md", changed)
    assert again[2] == 1 and again[0] == added - 1
    (vector,) = await EMBEDDER.embed(["renewed months"], "query")
    for hit in await stores.knowledge.search("acme", ["default"], "renewed months", vector, 9):
        assert changed[hit.start : hit.end] == hit.text
    assert await learn(stores.knowledge, "guide.md", changed) == (again[0] + again[1], 0, 0)


async def test_a_repeated_paragraph_is_stored_once(stores: Stores) -> None:
    text = "\n\n".join(["The same paragraph again, which is long enough to be a chunk of its own, for sure."] * 3)
    chunks = chunk("same.txt", text, capacity=25)
    assert len(chunks) == 3
    assert await learn(stores.knowledge, "same.txt", text) == (0, len({each.hash for each in chunks}), 0)


async def test_a_new_chunk_without_a_vector_changes_nothing(stores: Stores) -> None:
    await learn(stores.knowledge, "faq.txt", FAQ)
    unknown = [Chunk(text="new", heading="", start=0, end=3, hash="0" * 32)]
    with pytest.raises(VectorsMissing):
        await stores.knowledge.add_document("acme", "default", "faq.txt", "FAQ", unknown, {}, NOW)
    assert "every night" in (await known(stores.knowledge, "backups"))[0]


async def test_passages_of_other_tenants_and_collections_are_not_found(stores: Stores) -> None:
    await learn(stores.knowledge, "guide.md", GUIDE, tenant="other")
    await learn(stores.knowledge, "faq.txt", FAQ, collection="internal")
    assert await known(stores.knowledge, "renewed") == []
    assert await known(stores.knowledge, "backups", "default") == []
    assert len(await known(stores.knowledge, "backups", "default", "internal")) == 1


async def test_a_removed_document_is_deleted_with_its_passages(stores: Stores) -> None:
    await learn(stores.knowledge, "guide.md", GUIDE)
    await learn(stores.knowledge, "faq.txt", FAQ)
    assert [each.source for each in await stores.knowledge.documents("acme")] == ["faq.txt", "guide.md"]
    assert await stores.knowledge.remove("acme", "default", "guide.md")
    assert not await stores.knowledge.remove("acme", "default", "guide.md")
    assert [(each.source, each.chunks) for each in await stores.knowledge.documents("acme")] == [("faq.txt", 1)]
    assert all("ECS" not in text for text in await known(stores.knowledge, "ECS renewal"))


# --- conversations ---


async def begin(
    store: ConversationStore, run: str, when_busy: str = "queue", *, now: datetime = NOW, deadline: datetime = SOON,
    tokens: int = 800, conversation: str = "talk", tenant: str = "acme",
) -> TurnBegin:  # fmt: skip
    return await store.begin_turn(tenant, conversation, run, "ann", when_busy, deadline, now, tokens)  # type: ignore[arg-type]


async def end(
    store: ConversationStore, run: str, answer: str | None = "done", *, now: datetime = NOW, conversation: str = "talk"
) -> str | None:
    outcome = "failed" if answer is None else "answered"
    return await store.end_turn("acme", conversation, run, "ann", f"task of {run}", answer, outcome, now)  # type: ignore[arg-type]


def turn(run: str, answer: str = "done") -> Turn:
    return Turn(run=run, task=f"task of {run}", answer=answer)


async def test_a_turn_remembers_the_answered_turns_before_it(stores: Stores) -> None:
    talk = stores.conversations
    assert await begin(talk, "r1") == Begun(history=())
    await end(talk, "r1")
    await begin(talk, "r2")
    await end(talk, "r2", None)
    await begin(talk, "r3")
    await end(talk, "r3", "好")
    assert await begin(talk, "r4") == Begun(history=(turn("r1"), turn("r3", "好")))
    assert await talk.history("acme", "talk", 9) == [turn("r1"), turn("r3", "好")]
    assert await talk.history("acme", "talk", 1) == [turn("r3", "好")]
    assert await talk.history("other", "talk", 9) == []


async def test_history_is_cut_to_the_budget_from_its_old_end(stores: Stores) -> None:
    talk = stores.conversations
    for run, answer in (("r1", "x" * 400), ("r2", "y" * 400), ("r3", "三" * 100)):
        await begin(talk, run)
        await end(talk, run, answer)
    begun = await begin(talk, "r4", tokens=210)
    assert isinstance(begun, Begun) and [each.run for each in begun.history] == ["r2", "r3"]
    await end(talk, "r4")
    assert await begin(talk, "r5", tokens=0) == Begun(history=())


async def test_asking_again_gives_the_same_answer_even_after_later_turns(stores: Stores) -> None:
    talk = stores.conversations
    await begin(talk, "r1")
    await end(talk, "r1")
    first = await begin(talk, "r2")
    assert await begin(talk, "r2") == first
    assert await begin(talk, "r3", "refuse") == Refused(by="r2")
    await end(talk, "r2")
    await begin(talk, "r4")
    await end(talk, "r4")
    assert await begin(talk, "r2") == first == Begun(history=(turn("r1"),))
    assert await begin(talk, "r3", "refuse") == Refused(by="r2")
    assert await end(talk, "r3", None) is None


async def test_waiting_turns_begin_in_order_and_see_what_was_said(stores: Stores) -> None:
    talk = stores.conversations
    await begin(talk, "r1")
    assert await begin(talk, "r2") == Queued(behind="r1")
    assert await begin(talk, "r3") == Queued(behind="r1")
    assert await begin(talk, "r2") == Queued(behind="r1")
    assert await end(talk, "r1") == "r2"
    assert await begin(talk, "r3") == Queued(behind="r1")
    assert await begin(talk, "r2") == Begun(history=(turn("r1"),))
    assert await end(talk, "r2") == "r3"
    assert await begin(talk, "r3") == Begun(history=(turn("r1"), turn("r2")))
    assert await end(talk, "r3") is None


async def test_ending_again_releases_the_same_run(stores: Stores) -> None:
    talk = stores.conversations
    await begin(talk, "r1")
    await begin(talk, "r2")
    assert await end(talk, "r1") == "r2"
    assert await end(talk, "r1", "other words") == "r2"
    assert await end(talk, "r2") is None
    assert await end(talk, "r1") == "r2"
    assert await talk.history("acme", "talk", 9) == [turn("r1"), turn("r2")]


async def test_an_interrupting_turn_goes_first(stores: Stores) -> None:
    talk = stores.conversations
    await begin(talk, "r1")
    await begin(talk, "r2")
    assert await begin(talk, "r3", "interrupt") == Queued(behind="r1", interrupts=True)
    assert await end(talk, "r1", None) == "r3"
    assert await begin(talk, "r3", "interrupt") == Begun(history=())
    assert await end(talk, "r3") == "r2"


async def test_a_turn_that_ends_while_it_waits_leaves_the_queue(stores: Stores) -> None:
    talk = stores.conversations
    await begin(talk, "r1")
    await begin(talk, "r2")
    await begin(talk, "r3")
    assert await end(talk, "r2", None) is None
    assert await begin(talk, "r2") == Queued(behind="r1")
    assert await end(talk, "r1") == "r3"


async def test_a_stale_turn_is_taken_over_and_its_late_end_releases_nobody(stores: Stores) -> None:
    talk = stores.conversations
    await begin(talk, "r1", deadline=SOON)
    assert await begin(talk, "r2", now=SOON - timedelta(seconds=1), deadline=LATER) == Queued(behind="r1")
    assert await begin(talk, "r2", now=SOON, deadline=LATER) == Begun(history=())
    assert await begin(talk, "r3", now=SOON, deadline=LATER) == Queued(behind="r2")
    assert await end(talk, "r1", now=SOON) is None
    assert await end(talk, "r2", now=SOON) == "r3"


async def test_a_turn_whose_deadline_passed_while_it_waited_is_not_released(stores: Stores) -> None:
    talk = stores.conversations
    await begin(talk, "r1", deadline=LATER)
    await begin(talk, "r2", deadline=SOON)
    await begin(talk, "r3", deadline=LATER)
    assert await end(talk, "r1", now=SOON) == "r3"


async def test_a_run_that_never_began_can_end(stores: Stores) -> None:
    assert await end(stores.conversations, "r1", None) is None
    assert await end(stores.conversations, "r1", None) is None
    assert isinstance(await begin(stores.conversations, "r2"), Begun)


async def test_conversations_and_tenants_do_not_meet(stores: Stores) -> None:
    talk = stores.conversations
    await begin(talk, "r1")
    assert isinstance(await begin(talk, "r2", conversation="other"), Begun)
    assert isinstance(await begin(talk, "r1", tenant="other"), Begun)
    with pytest.raises(OtherConversation):
        await begin(talk, "r1", conversation="other")
    with pytest.raises(OtherConversation):
        await end(talk, "r1", conversation="other")


async def test_of_many_turns_at_once_one_is_open_and_all_get_their_turn(stores: Stores) -> None:
    talk = stores.conversations
    names = [f"r{number}" for number in range(8)]
    answers = dict(zip(names, await asyncio.gather(*(begin(talk, name) for name in names)), strict=True))
    (current,) = [name for name, answer in answers.items() if isinstance(answer, Begun)]
    assert all(answer == Queued(behind=current) for name, answer in answers.items() if name != current)
    order: list[str] = []
    following: str | None = current
    while following:
        order.append(following)
        released = await asyncio.gather(end(talk, following), end(talk, following))
        assert released[0] == released[1]
        following = released[0]
    assert sorted(order) == names


# --- runs ---


def event(number: int, run: str = "run1") -> EventRow:
    return EventRow(
        id=f"{run}-{number}", run=run, tenant="acme", type="ToolReturned", role="tools", slot=f"s{number}",
        time=NOW + timedelta(seconds=number), stream="RUNS_202611", seq=number, summary=f"事 {number}", bytes=100,
    )  # fmt: skip


def summary(run: str = "run1", seq: int = 1, **fields: object) -> RunSummary:
    values: dict[str, object] = {
        "run": run, "tenant": "acme", "status": "open", "agent": "ops", "user": "ann", "conversation": "talk",
        "task": f"task of {run}", "started": NOW, "seq": seq,
    }  # fmt: skip
    return RunSummary.model_validate(values | fields)


async def test_recording_again_changes_nothing(stores: Stores) -> None:
    for _ in range(2):
        await stores.runs.record([event(2), event(1)], [summary(seq=2)], Watermark(stream="RUNS_202611", seq=2))
    record = await stores.runs.show("run1", "acme")
    assert record is not None
    assert [each.seq for each in record.events] == [1, 2]
    assert record.events[0] == event(1)
    assert record.summary == summary(seq=2)
    assert await stores.runs.watermark("RUNS_202611") == Watermark(stream="RUNS_202611", seq=2)


async def test_an_older_summary_or_watermark_does_not_win(stores: Stores) -> None:
    done = summary(seq=9, status="completed", answer="好", ended=SOON, steps=4, tools=("RenewInstance", "calculator"))
    await stores.runs.record([event(9)], [done], Watermark(stream="s", seq=9, created=NOW))
    await stores.runs.record([event(3)], [summary(seq=3)], Watermark(stream="s", seq=3, created=NOW))
    record = await stores.runs.show("run1")
    assert record is not None and record.summary == done and len(record.events) == 2
    assert await stores.runs.watermark("s") == Watermark(stream="s", seq=9, created=NOW)


async def test_the_watermark_of_a_remade_stream_starts_again(stores: Stores) -> None:
    assert await stores.runs.watermark("s") is None
    await stores.runs.record([], [], Watermark(stream="s", seq=9, created=NOW))
    await stores.runs.record([], [], Watermark(stream="s", seq=1, created=SOON))
    assert await stores.runs.watermark("s") == Watermark(stream="s", seq=1, created=SOON)


async def test_runs_are_listed_newest_first_by_what_is_asked(stores: Stores) -> None:
    runs = [
        summary("run1", task="renew 100% of i-bp1", status="completed", answer="done"),
        summary("run2", started=NOW + timedelta(minutes=1), agent="chat"),
        summary("run3", started=NOW + timedelta(minutes=2), user="bob", tenant="other", task="续费实例"),
    ]
    await stores.runs.record([], runs)

    async def listed(limit: int = 9, **which: object) -> list[str]:
        return [run.run for run in await stores.runs.list_runs(RunFilter.model_validate(which), limit)]

    assert await listed() == ["run3", "run2", "run1"]
    assert await listed(limit=1) == ["run3"]
    assert await listed(tenant="acme") == ["run2", "run1"]
    assert await listed(status="completed") == ["run1"]
    assert await listed(agent="chat") == ["run2"]
    assert await listed(user="bob") == ["run3"]
    assert await listed(text="续费") == ["run3"]
    assert await listed(text="RENEW 100%") == ["run1"]
    assert await listed(text="100_") == []
    assert await listed(before=NOW + timedelta(minutes=1)) == ["run1"]
    assert await stores.runs.show("run3", "acme") is None
    assert await stores.runs.show("nothing") is None


# --- effects ---


async def claim(ledger: EffectLedger, command: str, key: str = "k", now: datetime = NOW) -> Claim:
    return await ledger.claim(key, "acme", f"run of {command}", command, "RenewInstance", {"Period": 3}, "v1", now)


async def test_a_finished_effect_answers_with_its_receipt(stores: Stores) -> None:
    ledger = stores.ledger
    assert await claim(ledger, "c1") == Claimed()
    await ledger.finish("k", "c1", {"text": "续", "n": 1})
    await ledger.finish("k", "c1", {"text": "another"})
    for command in ("c1", "c2"):
        assert await claim(ledger, command) == Done(receipt={"text": "续", "n": 1}, by="c1")


async def test_a_claimed_effect_is_in_progress_for_others_and_mine_for_its_command(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    assert await claim(ledger, "c2", now=LATER) == InProgress(by="c1", since=NOW)
    assert await claim(ledger, "c1", now=LATER) == Mine(since=NOW)
    assert await claim(ledger, "c2", key="another") == Claimed()


async def test_a_failed_effect_may_be_claimed_again(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    await ledger.fail("k", "c1", {"type": "Throttled"})
    await ledger.fail("k", "c1", {"type": "Throttled"})
    assert await claim(ledger, "c2", now=LATER) == Claimed()
    assert await claim(ledger, "c1") == InProgress(by="c2", since=LATER)
    with pytest.raises(NotYours):
        await ledger.finish("k", "c1", {})


async def test_an_effect_in_doubt_is_for_nobody_until_it_is_settled(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    await ledger.doubt("k", "c1", {"type": "Timeout"})
    await ledger.doubt("k", "c1", {"type": "Timeout"})
    assert await claim(ledger, "c2") == InProgress(by="c1", since=NOW, in_doubt=True)
    assert await claim(ledger, "c1") == Mine(since=NOW, in_doubt=True)
    await ledger.finish("k", "c1", {"n": 1})
    assert await claim(ledger, "c2") == Done(receipt={"n": 1}, by="c1")


async def test_what_is_done_stays_done_and_others_entries_are_not_changed(stores: Stores) -> None:
    ledger = stores.ledger
    await claim(ledger, "c1")
    for change in (ledger.finish, ledger.fail, ledger.doubt):
        with pytest.raises(NotYours):
            await change("k", "c2", {})
        with pytest.raises(NotYours):
            await change("unknown", "c1", {})
    await ledger.finish("k", "c1", {"n": 1})
    for change in (ledger.fail, ledger.doubt):
        with pytest.raises(NotYours):
            await change("k", "c1", {})
    assert await claim(ledger, "c3") == Done(receipt={"n": 1}, by="c1")


@pytest.mark.parametrize("after_failure", [False, True])
async def test_of_many_claims_at_once_one_wins(stores: Stores, after_failure: bool) -> None:
    ledger = stores.ledger
    for key in ("k1", "k2", "k3"):
        if after_failure:
            await claim(ledger, "c0", key)
            await ledger.fail(key, "c0", {})
        claims = await asyncio.gather(*(claim(ledger, f"c{number}", key) for number in range(1, 13)))
        assert claims.count(Claimed()) == 1
        winner = f"c{claims.index(Claimed()) + 1}"
        assert all(each == InProgress(by=winner, since=NOW) for each in claims if each != Claimed())
