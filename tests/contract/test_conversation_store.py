"""What every store of conversations promises, in memory and in Postgres alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.conversations import PostgresConversationStore
from infra.postgres.engine import connect, transaction
from infra.postgres.user_facts import PostgresFactStore
from schemas.events import Summary, Turn, TurnResult, UserFact
from services.memory.budget import tokens_of
from services.memory.facts import MOST, FactRefused, fact_of
from services.memory.memory_store import MemoryConversationStore
from services.memory.ports import (
    Begun,
    ConversationStore,
    EndedTurn,
    FactStore,
    Forgotten,
    NewTurn,
    OtherConversation,
    Queued,
    Recollection,
    Refused,
    Scope,
    TurnBegin,
    Wanted,
)
from services.memory.similar import Meaning
from services.memory.summaries import PATIENCE
from services.retrieval.embedder import HashEmbedder

T = TypeVar("T")

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=10)
LATER = NOW + timedelta(hours=1)
TABLES = ("conversations", "turns", "turn_words", "turn_vectors", "summaries", "user_facts")
EMBEDDER = HashEmbedder()


@dataclass
class Stores:
    """engine: the database behind them, if there is one; another: a second process with the same rows."""

    talk: ConversationStore
    facts: FactStore
    another: ConversationStore
    engine: AsyncEngine | None = None


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param == "memory":
        both = MemoryConversationStore()
        yield Stores(both, both, both)
        return
    url = request.getfixturevalue("postgres_url")
    service, second, owner = connect(url, role="milepost_service"), connect(url, role="milepost_service"), connect(url)
    yield Stores(PostgresConversationStore(service), PostgresFactStore(service), PostgresConversationStore(second), owner)
    for engine in (service, second, owner):
        await engine.dispose()


@pytest.fixture
def talk(stores: Stores) -> ConversationStore:
    return stores.talk


async def begin(
    store: ConversationStore, run: str, when_busy: str = "queue", *, now: datetime = NOW, deadline: datetime = SOON,
    conversation: str = "talk", tenant: str = "acme", user: str = "ann",
) -> TurnBegin:  # fmt: skip
    asked = {"conversation": conversation, "run": run, "user": user, "when_busy": when_busy, "deadline": deadline}
    return await store.begin_turn(tenant, NewTurn.model_validate(asked), now)


async def end(
    store: ConversationStore, run: str, answer: str | None = "done", *, now: datetime = NOW, conversation: str = "talk",
    user: str = "ann", task: str = "", results: Sequence[TurnResult] = (),
) -> str | None:  # fmt: skip
    said = EndedTurn(
        conversation=conversation, run=run, user=user, task=task or f"task of {run}", answer=answer,
        outcome="failed" if answer is None else "answered", results=tuple(results),
    )  # fmt: skip
    return (await store.end_turn("acme", said, now)).released


async def said(store: ConversationStore, run: str, task: str, answer: str, **place: object) -> None:
    """A whole turn."""
    user, conversation = str(place.get("user", "ann")), str(place.get("conversation", "talk"))
    at = place.get("now", NOW)
    assert isinstance(at, datetime)
    assert await begin(store, run, user=user, conversation=conversation, now=at) == Begun()
    await end(store, run, answer, task=task, user=user, conversation=conversation, now=at)


async def told(store: ConversationStore, run: str, tokens: int = 800, **wanted: object) -> Recollection:
    return await store.recall("acme", Wanted.model_validate({"run": run, "history_tokens": tokens, **wanted}))


async def history(store: ConversationStore, run: str, tokens: int = 800) -> tuple[Turn, ...]:
    return (await told(store, run, tokens)).history


async def meaning(words: str) -> Meaning:
    (vector,) = await EMBEDDER.embed([words], "query")
    return Meaning(embedder=EMBEDDER.name, fits=EMBEDDER.fits, vector=tuple(vector))


async def embed_all(store: ConversationStore, name: str = EMBEDDER.name) -> int:
    """Give every turn that lacks one its vector; how many there were."""
    lacking = await store.unembedded("acme", name, 1000)
    vectors = {each.run: (await meaning(each.text)).model_copy(update={"embedder": name}) for each in lacking}
    await store.embedded("acme", vectors)
    return len(lacking)


def turn(run: str, answer: str = "done") -> Turn:
    return Turn(run=run, task=f"task of {run}", answer=answer)


# --- whose turn it is ---


async def test_a_turn_remembers_the_answered_turns_before_it(talk: ConversationStore) -> None:
    assert await begin(talk, "r1") == Begun()
    assert await told(talk, "r1") == Recollection()
    await end(talk, "r1")
    await begin(talk, "r2")
    await end(talk, "r2", None)
    await begin(talk, "r3")
    await end(talk, "r3", "好")
    await begin(talk, "r4")
    assert await history(talk, "r4") == (turn("r1"), turn("r3", "好"))
    assert [past.turn for past in await talk.turns("acme", "talk", 9)] == [turn("r1"), turn("r3", "好")]
    assert [past.turn for past in await talk.turns("acme", "talk", 1)] == [turn("r3", "好")]
    assert await talk.turns("other", "talk", 9) == []


async def test_history_is_cut_to_the_budget_from_its_old_end(talk: ConversationStore) -> None:
    for run, answer in (("r1", "x" * 400), ("r2", "y" * 400), ("r3", "三" * 100)):
        await said(talk, run, "task", answer)
    await begin(talk, "r4")
    assert [each.run for each in await history(talk, "r4", 210)] == ["r2", "r3"]
    await end(talk, "r4")
    await begin(talk, "r5")
    assert await history(talk, "r5", 0) == ()


async def test_asking_again_gives_the_same_answer_even_after_later_turns(talk: ConversationStore) -> None:
    await begin(talk, "r1")
    await end(talk, "r1")
    await begin(talk, "r2")
    first = await told(talk, "r2")
    assert await begin(talk, "r3", "refuse") == Refused(by="r2")
    await end(talk, "r2")
    await begin(talk, "r4")
    await end(talk, "r4")
    assert await begin(talk, "r2") == Begun()
    assert await told(talk, "r2") == first == Recollection(history=(turn("r1"),))
    assert await begin(talk, "r3", "refuse") == Refused(by="r2")
    assert await end(talk, "r3", None) is None


async def test_waiting_turns_begin_in_order_and_see_what_was_said(talk: ConversationStore) -> None:
    await begin(talk, "r1")
    assert await begin(talk, "r2") == Queued(behind="r1")
    assert await begin(talk, "r3") == Queued(behind="r1")
    assert await begin(talk, "r2") == Queued(behind="r1")
    assert await told(talk, "r2") == Recollection()
    assert await end(talk, "r1") == "r2"
    assert await begin(talk, "r3") == Queued(behind="r1")
    assert await begin(talk, "r2") == Begun()
    assert await history(talk, "r2") == (turn("r1"),)
    assert await end(talk, "r2") == "r3"
    assert await begin(talk, "r3") == Begun()
    assert await history(talk, "r3") == (turn("r1"), turn("r2"))
    assert await end(talk, "r3") is None


async def test_ending_again_releases_the_same_run(talk: ConversationStore) -> None:
    await begin(talk, "r1")
    await begin(talk, "r2")
    assert await end(talk, "r1") == "r2"
    assert await end(talk, "r1", "other words") == "r2"
    assert await end(talk, "r2") is None
    assert await end(talk, "r1") == "r2"
    assert [past.turn for past in await talk.turns("acme", "talk", 9)] == [turn("r1"), turn("r2")]


async def test_an_interrupting_turn_goes_first(talk: ConversationStore) -> None:
    await begin(talk, "r1")
    await begin(talk, "r2")
    assert await begin(talk, "r3", "interrupt") == Queued(behind="r1", interrupts=True)
    assert await end(talk, "r1", None) == "r3"
    assert await begin(talk, "r3", "interrupt") == Begun()
    assert await end(talk, "r3") == "r2"


async def test_a_turn_that_ends_while_it_waits_leaves_the_queue(talk: ConversationStore) -> None:
    await begin(talk, "r1")
    await begin(talk, "r2")
    await begin(talk, "r3")
    assert await end(talk, "r2", None) is None
    assert await begin(talk, "r2") == Queued(behind="r1")
    assert await end(talk, "r1") == "r3"


async def test_a_stale_turn_is_taken_over_and_its_late_end_releases_nobody(talk: ConversationStore) -> None:
    await begin(talk, "r1", deadline=SOON)
    assert await begin(talk, "r2", now=SOON - timedelta(seconds=1), deadline=LATER) == Queued(behind="r1")
    assert await begin(talk, "r2", now=SOON, deadline=LATER) == Begun()
    assert await begin(talk, "r3", now=SOON, deadline=LATER) == Queued(behind="r2")
    assert await end(talk, "r1", now=SOON) is None
    assert await end(talk, "r2", now=SOON) == "r3"


async def test_a_turn_whose_deadline_passed_while_it_waited_is_not_released(talk: ConversationStore) -> None:
    await begin(talk, "r1", deadline=LATER)
    await begin(talk, "r2", deadline=SOON)
    await begin(talk, "r3", deadline=LATER)
    assert await end(talk, "r1", now=SOON) == "r3"


async def test_a_run_that_never_began_can_end(talk: ConversationStore) -> None:
    assert await end(talk, "r1", None) is None
    assert await end(talk, "r1", None) is None
    assert await begin(talk, "r2") == Begun()


async def test_conversations_and_tenants_do_not_meet(talk: ConversationStore) -> None:
    await begin(talk, "r1")
    assert await begin(talk, "r2", conversation="other") == Begun()
    assert await begin(talk, "r1", tenant="other") == Begun()
    with pytest.raises(OtherConversation):
        await begin(talk, "r1", conversation="other")
    with pytest.raises(OtherConversation):
        await end(talk, "r1", conversation="other")


async def test_of_many_turns_at_once_one_is_open_and_all_get_their_turn(stores: Stores) -> None:
    talk, another = stores.talk, stores.another
    names = [f"r{number}" for number in range(8)]
    stores_by_turn = [talk, another] * 4
    began = await asyncio.gather(*(begin(store, name) for store, name in zip(stores_by_turn, names, strict=True)))
    answers = dict(zip(names, began, strict=True))
    (current,) = [name for name, answer in answers.items() if answer == Begun()]
    assert all(answer == Queued(behind=current) for name, answer in answers.items() if name != current)
    order: list[str] = []
    following: str | None = current
    while following:
        order.append(following)
        released = await asyncio.gather(end(talk, following), end(another, following))
        assert released[0] == released[1]
        following = released[0]
    assert sorted(order) == names


# --- what a turn is told ---

LONG_AGO = [
    ("My order number is ZX-7741, please note it.", "Noted."),
    ("我妹妹叫小雨，在成都上大学。", "记住了。"),
    ("Which tea do you like?", "Green tea."),
]
FILLER = [(f"Let us talk about subject number {number} for a while.", "Fine. " * 20) for number in range(12)]


async def long_talk(store: ConversationStore) -> None:
    """Three turns long ago, then twelve about nothing, more than a history of 200 tokens holds."""
    for number, (task, answer) in enumerate([*LONG_AGO, *FILLER]):
        await said(store, f"r{number}", task, answer)


ASKED = [("What was my order ZX-7741 about?", 0), ("我妹妹在哪里上大学？", 1), ("green tea?", 2)]


@pytest.mark.parametrize("with_vectors", [True, False])
async def test_a_turn_long_ago_is_recalled_by_what_it_was_about(talk: ConversationStore, with_vectors: bool) -> None:
    await long_talk(talk)
    await embed_all(talk)
    for query, number in ASKED:
        await begin(talk, f"ask {number}")
        meant = await meaning(query) if with_vectors else None
        recalled = await told(talk, f"ask {number}", 200, similar=1, query=query, meaning=meant)
        assert [(each.task, each.answer) for each in recalled.similar] == [LONG_AGO[number]]
        await end(talk, f"ask {number}", None)


async def test_turns_of_the_recent_history_are_not_recalled_twice(talk: ConversationStore) -> None:
    await long_talk(talk)
    await embed_all(talk)
    await begin(talk, "now")
    query = "Let us talk about subject number 11 for a while"
    recalled = await told(talk, "now", 200, similar=32, query=query, meaning=await meaning(query))
    runs = [each.run for each in recalled.similar]
    assert runs and runs == sorted(runs, key=lambda run: int(run[1:]))
    assert not {each.run for each in recalled.history} & set(runs)
    assert recalled.history[-1].run == "r14"


NOTHING = ["", "   ", "zebra xylophone", "斑马", "مرحبا", "😀", "the of and is", "的了是", "x" * 100_000, "\\ ' \" :x %s {}"]


async def test_a_request_that_nothing_is_near_to_recalls_nothing(talk: ConversationStore) -> None:
    await long_talk(talk)
    for number, query in enumerate(NOTHING):
        await begin(talk, f"now {number}")
        assert (await told(talk, f"now {number}", 200, similar=5, query=query)).similar == (), query
        await end(talk, f"now {number}", None)


ODD = ["x" * 100_000, "字" * 50_000, "مرحبا كيف الحال", "mixed 混合 ﷽ 😀 text", "\u202eevil", "'; DROP TABLE turns --"]


async def test_whatever_was_said_can_be_stored_and_comes_back(talk: ConversationStore) -> None:
    for number, task in enumerate(ODD):
        await said(talk, f"r{number}", task, f"answer to {task}")
    await embed_all(talk)
    await begin(talk, "now")
    assert [(each.task, each.answer) for each in await history(talk, "now", 1_000_000)] == [
        (task, f"answer to {task}") for task in ODD
    ]


async def test_what_was_recalled_stays_so_whatever_comes_later(stores: Stores) -> None:
    talk = stores.talk
    await long_talk(talk)
    await stores.facts.remember("acme", "ann", fact_of("city", "Hangzhou", "ann"), NOW)
    await begin(talk, "now")
    asked = {"similar": 2, "facts": 5, "summary": True, "query": "order ZX-7741"}
    first = await told(talk, "now", 200, **asked)
    assert first.similar and first.facts and first.summary is None
    await embed_all(talk)
    await stores.facts.remember("acme", "ann", fact_of("city", "Shanghai", "ann"), LATER)
    assert await talk.want_summary("acme", "talk", "r9", "s1", NOW)
    assert await talk.summarised("acme", "s1", "All of it in short.")
    await end(talk, "now")
    assert await told(stores.another, "now", 200, **asked, meaning=await meaning("order ZX-7741")) == first
    await begin(talk, "next")
    after = await told(talk, "next", 200, **asked)
    assert [fact.text for fact in after.facts] == ["Shanghai"] and after.summary is not None


async def test_two_processes_that_ask_for_one_turn_are_told_the_same(stores: Stores) -> None:
    for key in ("city", "name", "tea"):
        await stores.facts.remember("acme", "ann", fact_of(key, "text", "ann"), NOW)
    await begin(stores.talk, "now")
    one, other = await at_once(
        stores, "SELECT FROM turns WHERE run = 'now' FOR UPDATE",
        told(stores.talk, "now", facts=1), told(stores.another, "now", facts=3),
    )  # fmt: skip
    assert one == other and one.facts


async def at_once(stores: Stores, lock: str, *works: Coroutine[None, None, T]) -> list[T]:
    """Do them all in the same moment: each begins, and waits where it meets the lock, before any goes on."""
    if stores.engine is None:
        return list(await asyncio.gather(*works))
    async with transaction(stores.engine) as connection:
        await connection.execute(text(lock))
        tasks = [asyncio.ensure_future(work) for work in works]
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        async with asyncio.timeout(20):
            while (await connection.execute(waiting)).scalar_one() + sum(task.done() for task in tasks) < len(tasks):
                await connection.execute(text("SELECT pg_stat_clear_snapshot()"))
    return list(await asyncio.gather(*tasks))


async def test_results_of_tools_come_back_with_their_turn(talk: ConversationStore) -> None:
    story = TurnResult(tool="write_story", text="Once upon a time …", kind="file", ref="obj/abc", media_type="text/plain")
    await begin(talk, "r1")
    await end(talk, "r1", "Here is your story.", results=[story, TurnResult(tool="clock", text="正午")])
    await begin(talk, "r2")
    (earlier,) = await history(talk, "r2")
    assert earlier.results == (story, TurnResult(tool="clock", text="正午"))
    (past,) = await talk.turns("acme", "talk", 1)
    assert past.turn == earlier


# --- vectors ---


async def test_turns_without_a_vector_are_named_until_they_have_one(talk: ConversationStore) -> None:
    await said(talk, "r1", "one", "eins")
    await begin(talk, "r2")
    await end(talk, "r2", None)
    assert [each.run for each in await talk.unembedded("acme", None, 9)] == ["r1"]
    assert await talk.unembedded("other", None, 9) == []
    assert await embed_all(talk) == 1
    assert await embed_all(talk) == 0
    assert await embed_all(talk, "another-embedder") == 1
    assert await talk.unembedded("acme", "another-embedder", 9) == []
    await talk.embedded("acme", {"gone": await meaning("x")})


async def test_vectors_of_another_embedder_are_not_compared(talk: ConversationStore) -> None:
    await long_talk(talk)
    await embed_all(talk, "another-embedder")
    meant = (await meaning(LONG_AGO[2][0])).model_copy(update={"fits": 0.5})
    assert await talk.search("acme", Scope(conversation="talk"), "", meant, 3) == []
    await embed_all(talk)
    assert [each.turn.run for each in await talk.search("acme", Scope(conversation="talk"), "", meant, 3)] == ["r2"]


# --- looking things up ---


async def test_conversations_are_listed_newest_first_page_by_page(talk: ConversationStore) -> None:
    for number in range(5):
        user = "bob" if number == 3 else "ann"
        await said(
            talk,
            f"r{number}",
            f"task {number}",
            "done",
            user=user,
            conversation=f"c{number}",
            now=NOW + timedelta(minutes=number),
        )
    await said(talk, "r9", "task 9", "done", user="bob", conversation="c0", now=LATER)
    first = await talk.talks("acme", None, 2)
    assert [(each.conversation, each.turns, each.users, each.task) for each in first] == [
        ("c0", 2, ("ann", "bob"), "task 9"), ("c4", 1, ("ann",), "task 4"),
    ]  # fmt: skip
    assert [each.conversation for each in await talk.talks("acme", None, 9, first[-1].last)] == ["c3", "c2", "c1"]
    assert [each.conversation for each in await talk.talks("acme", "bob", 9)] == ["c0", "c3"]
    assert await talk.talks("other", None, 9) == []


async def test_turns_are_read_backwards_page_by_page(talk: ConversationStore) -> None:
    for number in range(5):
        await said(talk, f"r{number}", "task", "done")
    last = await talk.turns("acme", "talk", 2)
    assert [each.turn.run for each in last] == ["r3", "r4"]
    assert [each.turn.run for each in await talk.turns("acme", "talk", 9, last[0].ended)] == ["r0", "r1", "r2"]
    assert await talk.turns("acme", "talk", 0) == []


async def test_a_search_finds_turns_of_all_conversations_of_a_user(talk: ConversationStore) -> None:
    await said(talk, "r1", "renew the web server", "done", conversation="c1")
    await said(talk, "r2", "续费网站服务器", "好了", conversation="c2")
    await said(talk, "r3", "renew the web server too", "done", conversation="c3", user="bob")
    found = await talk.search("acme", Scope(user="ann"), "web server", None, 5)
    assert [(each.conversation, each.turn.run) for each in found] == [("c1", "r1")]
    assert found[0].score is not None and found[0].score > 0
    assert [each.turn.run for each in await talk.search("acme", Scope(), "服务器", None, 5)] == ["r2"]
    assert {each.turn.run for each in await talk.search("acme", Scope(), "web server", None, 5)} == {"r1", "r3"}
    assert await talk.search("other", Scope(), "web server", None, 5) == []


# --- summaries ---


async def test_one_summary_is_expected_at_a_time_and_kept(stores: Stores) -> None:
    talk = stores.talk
    await long_talk(talk)
    none, turns = await talk.unsummarised("acme", "talk")
    assert none is None and [each.run for each in turns] == [f"r{number}" for number in range(15)]
    wants = await at_once(
        stores, "LOCK TABLE summaries IN SHARE MODE",
        *(store.want_summary("acme", "talk", "r5", f"s{number}", NOW) for number, store in enumerate([talk, stores.another])),
    )  # fmt: skip
    assert sorted(wants) == [False, True]
    run = f"s{wants.index(True)}"
    assert not await talk.summarised("acme", "unknown", "text")
    assert not await talk.summarised("other", run, "text")
    assert await talk.summarised("acme", run, "Six turns in short.")
    assert not await talk.summarised("acme", run, "other words")
    last, turns = await talk.unsummarised("acme", "talk")
    assert last == Summary(text="Six turns in short.", upto="r5", by=run) == await talk.last_summary("acme", "talk")
    assert [each.run for each in turns] == [f"r{number}" for number in range(6, 15)]
    assert not await talk.want_summary("acme", "talk", "r4", "s9", NOW), "a summary covers it already"
    assert await talk.want_summary("acme", "talk", "r7", "s10", NOW, beginning="Six turns in short.")
    assert (await talk.last_summary("acme", "talk")) == last, "what is only wanted is not told"
    assert await talk.summarised("acme", "s10", "Then two more.")
    now = await talk.last_summary("acme", "talk")
    assert now == Summary(text="Six turns in short.\nThen two more.", upto="r7", by="s10")
    assert not await talk.want_summary("acme", "talk", "nothing", "s9", NOW)


async def test_a_summary_that_failed_or_never_comes_is_asked_for_again_later(talk: ConversationStore) -> None:
    await long_talk(talk)
    assert await talk.want_summary("acme", "talk", "r5", "s1", NOW)
    assert not await talk.want_summary("acme", "talk", "r5", "s2", NOW + PATIENCE - timedelta(seconds=1))
    assert await talk.want_summary("acme", "talk", "r5", "s3", NOW + PATIENCE)
    assert await talk.summarised("acme", "s3", None)
    assert not await talk.want_summary("acme", "talk", "r5", "s4", NOW + PATIENCE + timedelta(seconds=1))
    assert await talk.want_summary("acme", "talk", "r5", "s5", NOW + 2 * PATIENCE)
    assert await talk.last_summary("acme", "talk") is None


async def test_a_turn_is_told_the_summary_that_ends_where_its_history_begins(talk: ConversationStore) -> None:
    await long_talk(talk)
    for number, upto in enumerate(("r3", "r11", "r13")):
        assert await talk.want_summary("acme", "talk", upto, f"s{number}", NOW)
        await talk.summarised("acme", f"s{number}", f"summary {number}")
    await begin(talk, "now")
    recalled = await told(talk, "now", 200, summary=True)
    assert recalled.history[0].run == "r12"
    assert recalled.summary == Summary(text="summary 1", upto="r11", by="s1")
    await end(talk, "now")
    await begin(talk, "later")
    assert (await told(talk, "later", 100_000, summary=True)).summary is None, "its history has everything"


# --- facts ---


async def test_facts_are_kept_one_a_key_and_recalled_by_their_user(stores: Stores) -> None:
    facts = stores.facts
    await facts.remember("acme", "ann", fact_of("city", "lives in  Hangzhou", "ann"), NOW)
    await facts.remember("acme", "ann", fact_of("姓名", "安", "ann"), NOW + timedelta(seconds=1))
    await facts.remember("acme", "bob", fact_of("city", "Berlin", "bob"), NOW)
    await facts.remember("acme", "ann", fact_of("city", "lives in Shanghai", "run1"), NOW + timedelta(seconds=2))
    ann = [UserFact(key="city", text="lives in Shanghai", source="run1"), UserFact(key="姓名", text="安", source="ann")]
    assert await facts.facts("acme", "ann") == ann
    assert await facts.facts("acme", "ann", 1) == ann[:1]
    assert await facts.facts("other", "ann") == []
    await begin(stores.talk, "r1")
    assert (await told(stores.talk, "r1", facts=8)).facts == tuple(ann)
    assert await facts.forget("acme", "ann", "city")
    assert not await facts.forget("acme", "ann", "city")
    assert await facts.facts("acme", "ann") == ann[1:]


async def test_facts_near_the_request_are_told_and_asked_again_they_are_the_same(stores: Stores) -> None:
    for number, (key, value) in enumerate((("city", "lives in Hangzhou"), ("tea", "prefers Longjing"), ("pet", "a cat"))):
        await stores.facts.remember("acme", "ann", fact_of(key, value, "ann"), NOW + timedelta(seconds=number))
    asked = {"which tea is green?": ["tea"], "what do I like?": ["pet", "tea"], "how far is the moon?": []}
    for number, (query, keys) in enumerate(asked.items()):
        await begin(stores.talk, f"r{number}", conversation=f"t{number}")
        for _ in range(2):
            near = await told(stores.talk, f"r{number}", facts=2, facts_when="near", query=query)
            assert [fact.key for fact in near.facts] == keys
            await stores.facts.remember("acme", "ann", fact_of("moon", "likes tea", "ann"), NOW)
        await stores.facts.forget("acme", "ann", "moon")


async def test_a_turn_that_just_fits_the_history_is_told_whole(talk: ConversationStore) -> None:
    await said(talk, "long", "x" * 4_000, "y" * 4_000)
    await said(talk, "fits", "好" * 100, "y" * 400)
    await begin(talk, "now")
    assert [(turn.task, turn.answer) for turn in (await told(talk, "now", 200)).history] == [("好" * 100, "y" * 400)]
    await end(talk, "now")
    await said(talk, "last", "Which?", "z" * 4_000)
    await begin(talk, "then")
    (cut_short,) = (await told(talk, "then", 200)).history
    assert cut_short.run == "last" and cut_short.answer.startswith("z" * 750) and tokens_of(cut_short) <= 200


async def test_a_user_has_no_more_facts_than_the_limit(stores: Stores) -> None:
    for number in range(MOST):
        await stores.facts.remember("acme", "ann", fact_of(f"key {number}", "text", "ann"), NOW)
    with pytest.raises(FactRefused):
        await stores.facts.remember("acme", "ann", fact_of("one more", "text", "ann"), NOW)
    await stores.facts.remember("acme", "ann", fact_of("key 7", "changed", "ann"), NOW)
    assert len(await stores.facts.facts("acme", "ann")) == MOST


# --- forgetting ---


async def test_a_forgotten_user_is_in_no_table_and_others_stay(stores: Stores) -> None:
    talk = stores.talk
    await said(talk, "a1", "Ann's secret", "a secret", conversation="shared")
    await said(talk, "b1", "Bob speaks", "of tea", conversation="shared", user="bob")
    await said(talk, "a2", "Ann's other secret", "another secret", conversation="own")
    await begin(talk, "a3", conversation="own")
    await told(talk, "a3", 10, similar=5, facts=5, query="secret")
    await said(talk, "b2", "Bob alone", "with tea", conversation="bobs", user="bob")
    assert await talk.want_summary("acme", "shared", "b1", "s1", NOW)
    await talk.summarised("acme", "s1", "Ann told a secret.")
    await begin(talk, "b3", conversation="shared", user="bob")
    assert (await told(talk, "b3", 0, summary=True)).summary == Summary(text="Ann told a secret.", upto="b1", by="s1")
    assert await talk.want_summary("acme", "bobs", "b2", "s2", NOW)
    for user in ("ann", "bob"):
        await stores.facts.remember("acme", user, fact_of("secret", f"{user}'s", user), NOW)
    assert await embed_all(talk) == 4
    assert await talk.forget_user("acme", "ann") == Forgotten(turns=3, facts=1, summaries=1, vectors=2)
    assert await talk.forget_user("acme", "ann") == Forgotten()
    assert await talk.search("acme", Scope(), "secret", None, 9) == []
    assert [each.conversation for each in await talk.talks("acme", None, 9)] == ["shared", "bobs"]
    assert await talk.last_summary("acme", "shared") is None
    assert len(await stores.facts.facts("acme", "bob")) == 1
    if stores.engine is not None:
        rows = await every_row(stores.engine)
        assert len(rows) > 8 and not [row for row in rows if "ann" in row.lower()]
        assert [row for row in rows if "secret" in row] == [row for row in rows if "bob's" in row]
    assert await begin(talk, "a9", conversation="own") == Begun(), "the turn that was open is gone"


async def test_a_vector_that_is_made_while_its_user_is_forgotten_does_not_stay(stores: Stores) -> None:
    if stores.engine is None:
        pytest.skip("the twin does one thing at a time")
    await said(stores.talk, "a1", "Ann's secret", "a secret")
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with transaction(stores.engine, "acme") as embedding:  # as `embedded` does it
        ended = await embedding.scalar(text("SELECT ended FROM turns WHERE run = 'a1' FOR UPDATE"))
        forgetting = asyncio.create_task(stores.talk.forget_user("acme", "ann"))
        async with asyncio.timeout(10):
            while not await embedding.scalar(text(blocked)):
                await asyncio.sleep(0.01)
        vector = {"ended": ended, "vector": str([1.0] + [0.0] * 383)}
        await embedding.execute(
            text("INSERT INTO turn_vectors VALUES ('acme', 'talk', :ended, 'e', CAST(:vector AS vector))"), vector
        )  # fmt: skip
    assert (await forgetting).vectors == 1
    assert not [row for row in await every_row(stores.engine) if row.startswith("turn_vectors")]


async def every_row(engine: AsyncEngine) -> list[str]:
    async with transaction(engine) as connection:
        return [
            f"{table} {row}"
            for table in TABLES
            for row in (await connection.execute(text(f"SELECT CAST(t AS text) FROM {table} AS t"))).scalars()
        ]
