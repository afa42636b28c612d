"""What every index of documents promises, in memory and in Postgres alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from infra.postgres.engine import connect
from infra.postgres.knowledge_index import PostgresKnowledgeIndex
from schemas.events import Passage
from services.retrieval.chunks import Chunk, chunk
from services.retrieval.embedder import HashEmbedder
from services.retrieval.knowledge_index import Added, KnowledgeIndex, NewDocument, VectorsMissing, Wanted
from services.retrieval.memory_knowledge_index import MemoryKnowledgeIndex

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EMBEDDER = HashEmbedder()


@pytest.fixture(params=["memory", "postgres"])
async def index(request: pytest.FixtureRequest) -> AsyncIterator[KnowledgeIndex]:
    if request.param == "memory":
        yield MemoryKnowledgeIndex()
        return
    engine = connect(request.getfixturevalue("postgres_url"), role="milepost_service")
    yield PostgresKnowledgeIndex(engine, EMBEDDER.name)
    await engine.dispose()


GUIDE = """# ECS guide

Elastic Compute Service runs virtual servers.

## Renewal

A subscription instance can be renewed for 1 to 60 months before it expires. Order id o-77x4 is an example.

## 停机

按量付费的实例停机后不再收取计算费用。
"""

FAQ = "Backups are taken every night at two and kept for thirty days.\n"


async def put(
    index: KnowledgeIndex, source: str, text: str, tenant: str = "acme", collection: str = "default", **metadata: str
) -> Added:
    """Add a document as the service does."""
    chunks = chunk(source, text, capacity=30)
    new = await index.missing(tenant, collection, source, chunks)
    fresh = [each for each in chunks if each.hash in new]
    vectors = await EMBEDDER.embed([each.to_embed() for each in fresh], "passage")
    by_hash = {each.hash: vector for each, vector in zip(fresh, vectors, strict=True)}
    document = NewDocument(
        collection=collection, source=source, title=source.upper(), chunks=tuple(chunks), metadata=metadata
    )  # fmt: skip
    return await index.add(tenant, document, by_hash, NOW)


async def learn(index: KnowledgeIndex, source: str, text: str, tenant: str = "acme") -> tuple[int, int, int]:
    added = await put(index, source, text, tenant)
    return added.kept, added.added, added.removed


async def ask(index: KnowledgeIndex, text: str, tenant: str = "acme", **wanted: object) -> list[Passage]:
    (vector,) = await EMBEDDER.embed([text], "query")
    return await index.search(tenant, Wanted.model_validate({"text": text, "k": 2, **wanted}), vector)


async def known(index: KnowledgeIndex, text: str, *collections: str, tenant: str = "acme") -> list[str]:
    return [hit.text for hit in await ask(index, text, tenant, collections=collections or ("default",))]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("for how many months can an instance be renewed", "60 months"),
        ("停机以后还收费吗", "按量付费"),
        ("what is o-77x4", "o-77x4"),
        ("when are backups taken", "every night"),
    ],
)
async def test_the_passage_for_a_question_comes_first(index: KnowledgeIndex, question: str, answer: str) -> None:
    await learn(index, "guide.md", GUIDE)
    await learn(index, "faq.txt", FAQ)
    assert answer in (await known(index, question))[0]


async def test_a_passage_says_exactly_where_it_stands(index: KnowledgeIndex) -> None:
    await learn(index, "guide.md", GUIDE)
    best, *_ = await ask(index, "renewed for months")
    assert GUIDE[best.start : best.end] == best.text
    assert (best.title, best.heading, best.source) == ("GUIDE.MD", "ECS guide > Renewal", "guide.md")
    assert best.score > 0 and best.similarity is not None and best.version == 1 and best.page is None


async def test_a_changed_document_replaces_only_what_changed(index: KnowledgeIndex) -> None:
    kept, added, removed = await learn(index, "guide.md", GUIDE)
    assert (kept, removed) == (0, 0) and added >= 3
    changed = "An opening line that moves everything.\n\n" + GUIDE.replace("60 months", "36 months")
    again = await learn(index, "guide.md", changed)
    assert again[2] == 1 and again[0] == added - 1
    for hit in await ask(index, "renewed months", k=9):
        assert changed[hit.start : hit.end] == hit.text
    assert await learn(index, "guide.md", changed) == (again[0] + again[1], 0, 0)


async def test_a_repeated_paragraph_is_stored_once(index: KnowledgeIndex) -> None:
    text = "\n\n".join(["The same paragraph again, which is long enough to be a chunk of its own, for sure."] * 3)
    chunks = chunk("same.txt", text, capacity=25)
    assert len(chunks) == 3
    assert await learn(index, "same.txt", text) == (0, len({each.hash for each in chunks}), 0)


async def test_a_new_chunk_without_a_vector_changes_nothing(index: KnowledgeIndex) -> None:
    await learn(index, "faq.txt", FAQ)
    unknown = [Chunk(text="new", heading="", start=0, end=3, hash="0" * 32)]
    with pytest.raises(VectorsMissing):
        document = NewDocument(collection="default", source="faq.txt", title="FAQ", chunks=tuple(unknown))
        await index.add("acme", document, {}, NOW)
    assert "every night" in (await known(index, "backups"))[0]


async def test_passages_of_other_tenants_and_collections_are_not_found(index: KnowledgeIndex) -> None:
    await learn(index, "guide.md", GUIDE, tenant="other")
    await put(index, "faq.txt", FAQ, collection="internal")
    assert await known(index, "renewed") == []
    assert await known(index, "backups", "default") == []
    assert len(await known(index, "backups", "default", "internal")) == 1


async def test_a_removed_document_is_deleted_with_its_passages(index: KnowledgeIndex) -> None:
    await learn(index, "guide.md", GUIDE)
    await learn(index, "faq.txt", FAQ)
    assert {each.source for each in await index.documents("acme")} == {"faq.txt", "guide.md"}
    assert await index.remove("acme", "default", "guide.md")
    assert not await index.remove("acme", "default", "guide.md")
    assert [(each.source, each.chunks) for each in await index.documents("acme")] == [("faq.txt", 1)]
    assert all("ECS" not in text for text in await known(index, "ECS renewal"))


# --- versions ---


async def test_each_change_makes_a_version_and_what_changes_nothing_makes_none(index: KnowledgeIndex) -> None:
    assert await index.versions("acme", ["default", "other"]) == {"default": 0, "other": 0}
    assert (await put(index, "guide.md", GUIDE)).version == 1
    assert (await put(index, "faq.txt", FAQ)).version == 2
    assert (await put(index, "guide.md", GUIDE)).version == 2
    assert (await put(index, "guide.md", GUIDE, lang="zh")).version == 3
    assert not await index.remove("acme", "default", "nothing")
    assert await index.versions("acme", ["default"]) == {"default": 3}
    assert await index.remove("acme", "default", "faq.txt")
    assert await index.versions("acme", ["default", "other"]) == {"default": 4, "other": 0}
    assert await index.versions("other", ["default"]) == {"default": 0}
    assert [(each.source, each.version) for each in await index.documents("acme")] == [("guide.md", 3)]


async def test_a_collection_can_be_searched_as_it_was(index: KnowledgeIndex) -> None:
    old, new = GUIDE, "A line before.\n\n" + GUIDE.replace("60 months", "36 months")
    await put(index, "guide.md", old)
    await put(index, "guide.md", new)
    await put(index, "faq.txt", FAQ)
    for version, text in ((1, old), (2, new), (3, new), (9, new)):
        found = await ask(index, "for how many months can an instance be renewed", versions={"default": version}, k=9)
        assert ("36 months" if text == new else "60 months") in found[0].text
        assert all(text[each.start : each.end] == each.text for each in found if each.source == "guide.md")
        assert {each.source for each in found} == {"guide.md", "faq.txt"} - ({"faq.txt"} if version < 3 else set())
        assert {each.version for each in found} == {min(version, 3)}
    assert await ask(index, "months", versions={"default": 0}) == []


async def test_what_comes_back_keeps_its_vector(index: KnowledgeIndex) -> None:
    first = await put(index, "guide.md", GUIDE)
    await put(index, "guide.md", FAQ)
    assert await index.missing("acme", "default", "guide.md", chunk("guide.md", GUIDE, capacity=30)) == set()
    back = await put(index, "guide.md", GUIDE)
    assert (back.added, back.version) == (first.added, 3)
    for version, there in ((1, True), (2, False), (3, True)):
        found = await ask(index, "subscription instance renewed", versions={"default": version}, k=9)
        assert any("60 months" in each.text for each in found) == there


async def test_a_removed_document_is_in_no_version(index: KnowledgeIndex) -> None:
    await put(index, "guide.md", GUIDE)
    await put(index, "faq.txt", FAQ)
    await index.remove("acme", "default", "guide.md")
    for version in range(4):
        found = await ask(index, "renewal of an ECS instance 停机", versions={"default": version}, k=9)
        assert {each.source for each in found} <= {"faq.txt"}
    assert (await put(index, "guide.md", GUIDE)).added >= 3


async def test_a_removed_collection_is_empty(index: KnowledgeIndex) -> None:
    await put(index, "guide.md", GUIDE)
    await put(index, "faq.txt", FAQ)
    await put(index, "faq.txt", FAQ, collection="other")
    assert await index.remove_collection("acme", "default") == 2
    assert await index.remove_collection("acme", "default") == 0
    assert [each.collection for each in await index.documents("acme")] == ["other"]
    assert await index.versions("acme", ["default", "other"]) == {"default": 4, "other": 1}


async def test_documents_added_at_once_have_versions_of_their_own(index: KnowledgeIndex) -> None:
    added = await asyncio.gather(*(put(index, f"{number}.txt", f"Text number {number}.") for number in range(8)))
    assert sorted(each.version for each in added) == list(range(1, 9))
    assert len(await ask(index, "text number", k=9)) == 8


async def test_documents_come_in_pages(index: KnowledgeIndex) -> None:
    for number in range(5):
        await put(index, f"{number}.txt", FAQ, lang="en")
    seen: list[str] = []
    while page := await index.documents("acme", "default", after=seen[-1] if seen else "", limit=2):
        assert all(each.metadata == {"lang": "en"} and each.chunks == 1 and each.added == NOW for each in page)
        seen += [each.id for each in page]
    assert len(seen) == len(set(seen)) == 5
    assert await index.documents("acme", "other") == []


# --- what is found ---


async def test_filters_let_only_fitting_documents_through(index: KnowledgeIndex) -> None:
    await put(index, "a.txt", "Backups are kept for ten days.", lang="en", product="ecs")
    await put(index, "b.txt", "Backups are kept for twenty days.", lang="en", product="rds")
    await put(index, "c.txt", "Backups are kept for thirty days.", lang="en")

    async def sources(**filters: str) -> set[str]:
        return {each.source for each in await ask(index, "how long are backups kept", filters=filters, k=9)}

    assert await sources() == {"a.txt", "b.txt", "c.txt"}
    assert await sources(lang="en", product="rds") == {"b.txt"}
    assert await sources(product="ecs") == {"a.txt"}
    assert await sources(lang="zh") == await sources(product="") == set()
    await put(index, "b.txt", "Backups are kept for twenty days.", lang="zh")
    assert await sources(lang="zh") == {"b.txt"} and await sources(product="rds") == set()
    was = await ask(index, "how long are backups kept", filters={"product": "rds"}, versions={"default": 3})
    assert {each.source for each in was} == {"b.txt"}


async def test_the_same_text_in_two_documents_is_found_once(index: KnowledgeIndex) -> None:
    await put(index, "one.txt", FAQ)
    await put(index, "two.txt", FAQ)
    await put(index, "three.txt", "Restores are done by day.")
    assert [each.text for each in await ask(index, "backups every night", k=9)].count(FAQ.strip()) == 1


STEPS = "\n\n".join(f"Step {word}: " + f"{word} does the {word} thing to the machine, slowly." * 2 for word in (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta"))  # fmt: skip


async def test_neighbours_stand_around_what_was_found(index: KnowledgeIndex) -> None:
    await put(index, "steps.txt", STEPS)
    (alone,) = await ask(index, "delta", k=1)
    assert alone.text.startswith("Step delta")
    (wide,) = await ask(index, "delta", k=1, neighbours=1)
    assert [part[5:9] for part in wide.text.split("\n\n")] == ["gamm", "delt", "epsi"]
    assert STEPS[wide.start : wide.end].split() == wide.text.split()
    assert (wide.hash, wide.score, wide.heading) == (alone.hash, alone.score, alone.heading)
    (whole,) = await ask(index, "alpha zeta", k=2, neighbours=5)
    assert whole.text.split() == STEPS.split() and (whole.start, whole.end) == (0, len(STEPS))


async def test_neighbours_are_those_of_the_version(index: KnowledgeIndex) -> None:
    await put(index, "steps.txt", STEPS)
    await put(index, "steps.txt", STEPS.replace("Step gamma", "Step GAMMA"))
    (now,) = await ask(index, "delta", k=1, neighbours=1)
    (before,) = await ask(index, "delta", k=1, neighbours=1, versions={"default": 1})
    assert "Step GAMMA" in now.text and "Step gamma" in before.text


async def test_windows_that_do_not_touch_stay_apart(index: KnowledgeIndex) -> None:
    await put(index, "steps.txt", STEPS)
    apart = await ask(index, "alpha zeta", k=2, neighbours=1)
    assert sorted(each.text.count("Step") for each in apart) == [2, 2]
    assert apart[0].score >= apart[1].score


async def test_a_name_that_many_passages_hold_does_not_count_as_a_name(index: KnowledgeIndex) -> None:
    for number in range(60):
        await put(index, f"{number}.txt", f"limit-count, sentence {number}.")
    await put(index, "answer.txt", "The plugin limit-count refuses requests above its quota with status 503.")
    assert (await ask(index, "status of limit-count above its quota"))[0].source == "answer.txt"


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\t", "'; DROP TABLE passages --", "\\' & | ! <-> :* % _ {1:2}/3", "مرحبا بالعالم كيف حالك", "😀",
     "\u202e\u200f", "a" * 20_000, "实例" * 5_000, "请帮我 renew 这个 ECS 实例 i-bp1, 谢谢 thanks", "\x07\x1b[31m",
     "".join(map(chr, range(1, 256))), " ".join(f"word{number}" for number in range(3_000))],
)  # fmt: skip
async def test_any_text_can_be_searched_and_stored(index: KnowledgeIndex, text: str) -> None:
    await put(index, "guide.md", GUIDE)
    assert len(await ask(index, text)) == 2
    assert await index.search("acme", Wanted(text=text), None) is not None
    if text.strip():
        await put(index, "odd.txt", text)
        found = await ask(index, text, k=9, neighbours=1)
        assert all(text[each.start : each.end].strip() for each in found if each.source == "odd.txt")
        assert any(each.source == "odd.txt" for each in found)
        await index.remove("acme", "default", "odd.txt")


async def test_nothing_is_found_where_nothing_is(index: KnowledgeIndex) -> None:
    assert await ask(index, "anything") == await ask(index, "x", collections=()) == []
    await put(index, "guide.md", GUIDE)
    assert await ask(index, "renewal", collections=("other",), neighbours=2) == []


async def test_collections_say_what_they_hold(index: KnowledgeIndex) -> None:
    await put(index, "guide.md", GUIDE, collection="manuals")
    await put(index, "faq.txt", FAQ, collection="manuals")
    await put(index, "faq.txt", FAQ, collection="Faq")
    await put(index, "faq.txt", FAQ, tenant="other")
    faq, manuals = await index.shelves("acme")
    assert (faq.name, faq.documents, faq.version) == ("Faq", 1, 1)
    assert (manuals.name, manuals.documents, manuals.version, manuals.changed) == ("manuals", 2, 2, NOW)
    assert manuals.chunks == sum(each.chunks for each in await index.documents("acme", "manuals"))


async def test_the_pieces_of_a_document_come_in_order_and_page_by_page(index: KnowledgeIndex) -> None:
    await put(index, "guide.md", "An older text.", collection="manuals")
    added = await put(index, "guide.md", GUIDE, collection="manuals")
    found = await index.pieces("acme", added.document)
    assert found is not None and found.after is None and found.document.source == "guide.md"
    assert list(found.chunks) == chunk("guide.md", GUIDE, capacity=30)
    first = await index.pieces("acme", added.document, limit=1)
    assert first is not None and first.after == 0 and first.chunks == found.chunks[:1]
    rest = await index.pieces("acme", added.document, after=0)
    assert rest is not None and rest.chunks == found.chunks[1:]
    assert await index.pieces("other", added.document) is None
