"""What every catalogue of tools promises, in memory and in Postgres alike."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.postgres.engine import connect
from infra.postgres.tool_index import PostgresToolIndex
from schemas.tools import ToolCard
from services.retrieval.embedder import HashEmbedder
from services.retrieval.memory_tool_index import MemoryToolIndex
from services.retrieval.tool_index import SHARED, CardVersion, CatalogueState, Host, NameMoved, Put, ToolIndex
from services.retrieval.words import card_text

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EMBEDDER = HashEmbedder()


@pytest.fixture(params=["memory", "postgres"])
async def index(request: pytest.FixtureRequest) -> AsyncIterator[ToolIndex]:
    if request.param == "memory":
        yield MemoryToolIndex()
        return
    url = request.getfixturevalue("postgres_url")
    service, keeper = connect(url, role="milepost_service"), connect(url, role="milepost_keeper")
    yield PostgresToolIndex(service, EMBEDDER.name, keeper)
    await service.dispose()
    await keeper.dispose()


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


async def vectors_of(*cards: ToolCard) -> dict[str, list[float]]:
    texts = [card_text(each) for each in cards]
    return dict(zip(texts, await EMBEDDER.embed(texts, "passage"), strict=True))


async def add(index: ToolIndex, *cards: ToolCard, tenant: str = SHARED) -> Put:
    return await index.put(tenant, cards, await vectors_of(*cards))


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
async def test_the_tool_for_a_request_comes_first(index: ToolIndex, request_: str, tool: str) -> None:
    await add(index, *CARDS)
    assert (await found(index, request_))[0] == tool


async def test_a_card_without_a_vector_is_found_by_its_words(index: ToolIndex) -> None:
    await add(index, *CARDS)
    await index.put(SHARED, [card("TranslateText", "Translates a text into another language. 翻译文本。")])
    assert "TranslateText" in await found(index, "translate this text", k=9)
    assert (await index.search("acme", "翻译", None, 3))[0].card.name == "TranslateText"


async def test_a_found_card_says_why(index: ToolIndex) -> None:
    await add(index, *CARDS)
    (vector,) = await EMBEDDER.embed(["RenewInstance i-bp1"], "query")
    best, other, *_ = await index.search("acme", "RenewInstance i-bp1", vector, 3)
    given = {"from_dense", "from_lexical", "from_name"}
    assert best.why.keys() == {"dense", "lexical", "name", "rrf", "fused"} | given
    assert best.why["name"] == pytest.approx(1.0)
    for hit in (best, other):  # the scores of all lists, also of those in which it was not found
        likeness = sum(a * b for a, b in zip(vector, await vector_of(hit.card), strict=True))
        assert hit.why["dense"] == pytest.approx(likeness, abs=1e-3)
        assert hit.score == hit.why["fused"] == pytest.approx(sum(hit.why[part] for part in given))
    assert best.why["rrf"] == pytest.approx(3 / 61)


async def names(index: ToolIndex, tenant: str) -> list[str]:
    return [each.name for each in await index.page(tenant)]


async def vector_of(tool: ToolCard) -> list[float]:
    return (await EMBEDDER.embed([card_text(tool)], "passage"))[0]


async def test_a_found_card_is_the_card_that_was_put_in(index: ToolIndex) -> None:
    wide = card("odd", "数 \\ ' \" %s $1 :x {} \x00 \\u0000", "zebra", "alpha", "Mitte", effect="write", examples=("a", "b"))
    await add(index, wide)
    (back,) = await index.get("acme", ["odd"])
    assert back.model_dump_json() == wide.model_dump_json()


async def test_excluded_tools_are_not_found(index: ToolIndex) -> None:
    await add(index, *CARDS)
    names = await found(index, "renew instance", "acme", 6, "RenewInstance", "StopInstance")
    assert names and not {"RenewInstance", "StopInstance"} & set(names)


async def test_a_tenant_sees_shared_tools_and_its_own_but_no_others(index: ToolIndex) -> None:
    await add(index, *CARDS[:2])
    await add(index, card("RenewDomain", "Renews a domain."), tenant="acme")
    assert await names(index, "acme") == ["RenewDomain", "RenewInstance", "StopInstance"]
    assert await names(index, "other") == ["RenewInstance", "StopInstance"]
    assert "RenewDomain" in await found(index, "renew domain", "acme")
    assert "RenewDomain" not in await found(index, "renew domain", "other")
    assert await index.get("other", ["RenewDomain", "StopInstance"]) == [CARDS[1]]


async def test_a_tenants_own_tool_comes_in_place_of_the_shared_one(index: ToolIndex) -> None:
    own = card("RenewInstance", "Renews an instance, as acme does it.")
    await add(index, *CARDS)
    await add(index, own, tenant="acme")
    (vector,) = await EMBEDDER.embed(["renew instance"], "query")
    hits = [hit.card for hit in await index.search("acme", "renew instance", vector, 6) if hit.card.name == own.name]
    assert hits == [own]
    assert await index.get("acme", [own.name]) == [own]
    assert own in await index.page("acme")
    assert await index.get("other", [own.name]) == [CARDS[0]]
    for tenant, names in (("acme", []), ("other", [own.name])):  # only the shared one speaks of subscriptions
        assert [hit.card.name for hit in await index.search(tenant, "subscription", None, 6)] == names


async def test_get_keeps_the_order_that_was_asked_for(index: ToolIndex) -> None:
    await add(index, *CARDS)
    asked = ["http_get", "nothing", "calculator", "http_get"]
    assert [each.name for each in await index.get("acme", asked)] == ["http_get", "calculator"]


async def test_a_removed_tool_is_gone(index: ToolIndex) -> None:
    await add(index, *CARDS)
    await index.remove(SHARED, ["RenewInstance"])
    await index.remove(SHARED, ["RenewInstance"])
    assert "RenewInstance" not in await found(index, "renew instance", k=6)


async def test_putting_says_how_many_cards_changed_and_how_many_lack_their_vector(index: ToolIndex) -> None:
    assert await index.put(SHARED, CARDS[:3]) == Put(changed=3, unembedded=3)
    assert await index.put(SHARED, CARDS[:3]) == Put(changed=0, unembedded=0)
    changed = CARDS[1].model_copy(update={"description": "changed"})
    assert await add(index, CARDS[0], changed, CARDS[3]) == Put(changed=2, unembedded=0)
    assert await index.put(SHARED, []) == Put(changed=0, unembedded=0)


async def test_of_cards_of_one_name_put_in_at_once_the_last_is_kept(index: ToolIndex) -> None:
    changed = CARDS[0].model_copy(update={"description": "changed"})
    assert await index.put(SHARED, [CARDS[0], CARDS[1], changed]) == Put(changed=2, unembedded=2)
    assert await index.get("acme", [CARDS[0].name]) == [changed]


async def test_cards_without_a_vector_are_told_newest_first_of_every_tenant(index: ToolIndex) -> None:
    await index.put(SHARED, CARDS[:2])
    await index.put("acme", [CARDS[2]])
    await index.put("other", [CARDS[3]])
    waiting = await index.unembedded(9)
    assert waiting[:2] == [("other", CARDS[3]), ("acme", CARDS[2])]
    assert {(SHARED, CARDS[0].name), (SHARED, CARDS[1].name)} == {(tenant, each.name) for tenant, each in waiting[2:]}
    assert await index.unembedded(1) == [("other", CARDS[3])]
    await index.embedded(await vectors_of(*CARDS[1:4]))
    assert await index.unembedded(9) == [(SHARED, CARDS[0])]


async def test_a_vector_stands_for_its_text_whoever_has_it(index: ToolIndex) -> None:
    await index.put("acme", [CARDS[0]])
    await index.put("other", [CARDS[0]])
    await index.embedded(await vectors_of(CARDS[0]))
    for tenant in ("acme", "other"):
        assert (await index.state(tenant)).unembedded == 0
        (vector,) = await EMBEDDER.embed(["instance"], "query")
        assert "dense" in (await index.search(tenant, "", vector, 1))[0].why
    await index.remove("acme", [CARDS[0].name])
    assert await index.put("acme", [CARDS[0]]) == Put(changed=1, unembedded=0)
    elsewhere = CARDS[0].model_copy(update={"lane": "another"})
    assert await index.put("acme", [elsewhere]) == Put(changed=1, unembedded=0)


async def test_every_change_that_a_tenant_sees_gives_it_a_new_revision(index: ToolIndex) -> None:
    assert await index.state("acme") == CatalogueState(revision=0, cards=0, unembedded=0)
    seen = [0]

    async def revised() -> bool:
        seen.append((await index.state("acme")).revision)
        return seen[-1] > seen[-2]

    await index.put(SHARED, CARDS[:2])
    assert await revised()
    await index.put("acme", CARDS[2:4])
    assert await revised()
    await index.put("acme", CARDS[2:4])
    await index.remove("acme", ["nothing"])
    await index.put("other", CARDS[:1])
    assert not await revised()
    await index.remove("acme", [CARDS[2].name])
    assert await revised()
    await index.remove(SHARED, [CARDS[0].name, "nothing"])
    assert await revised()
    assert (await index.state("acme")).cards == 2
    assert await index.state("other") == CatalogueState(revision=seen[-1], cards=2, unembedded=2)


async def test_every_version_of_a_card_is_kept(index: ToolIndex) -> None:
    name = CARDS[0].name
    changed = CARDS[0].model_copy(update={"description": "changed"})
    revisions = []
    for work in (
        index.put(SHARED, CARDS), index.put(SHARED, [changed]), index.remove(SHARED, [name]), index.put(SHARED, [CARDS[0]])
    ):  # fmt: skip
        await work
        revisions.append((await index.state("acme")).revision)
    first, second, third, fourth = revisions
    assert await index.versions("acme", name) == [
        CardVersion(card=CARDS[0], since=first, until=second),
        CardVersion(card=changed, since=second, until=third),
        CardVersion(card=CARDS[0], since=fourth),
    ]
    await index.put("acme", [changed])
    assert [version.card for version in await index.versions("acme", name)][3:] == [changed]
    assert len(await index.versions("other", name)) == 3
    assert await index.versions("acme", "nothing") == []


async def test_pages_follow_each_other_by_name(index: ToolIndex) -> None:
    own = card("StopInstance", "Acme's own.")
    await add(index, *CARDS)
    await add(index, own, tenant="acme")
    first = await index.page("acme", limit=2)
    second = await index.page("acme", after=first[-1].name, limit=2)
    third = await index.page("acme", after=second[-1].name)
    assert [*first, *second, *third] == sorted([own, *(each for each in CARDS if each.name != own.name)], key=lambda x: x.name)
    assert await index.page("acme", after=third[-1].name) == []


async def test_hosts_are_known_as_last_heard(index: ToolIndex) -> None:
    first = Host(lane="builtin", seen=NOW, queue=3, failing=0.5)
    other = Host(lane="cloud", seen=NOW)
    later = Host(lane="builtin", seen=NOW + timedelta(seconds=5))
    assert await index.hosts() == {}
    await index.heard([first, other])
    assert await index.hosts() == {"builtin": first, "cloud": other}
    await index.heard([later, first])
    await index.heard([first])
    await index.heard([])
    assert await index.hosts() == {"builtin": later, "cloud": other}


@pytest.mark.parametrize("text", ["", " ", "'; DROP TABLE tool_cards --", "\\' & | ! <-> :*", "مرحبا", "😀", "a" * 20_000])
async def test_any_text_can_be_searched(index: ToolIndex, text: str) -> None:
    await add(index, *CARDS)
    assert len(await found(index, text, k=2)) == 2
    assert await index.search("acme", text, None, 2) is not None


async def test_cards_of_another_embedder_are_embedded_anew(postgres_url: str) -> None:
    engine = connect(postgres_url)
    await add(PostgresToolIndex(engine, "old"), *CARDS[:2])
    index = PostgresToolIndex(engine, "new")
    assert (await index.state("acme")).unembedded == 2
    assert {each.name for _, each in await index.unembedded(9)} == {each.name for each in CARDS[:2]}
    (vector,) = await EMBEDDER.embed(["instance"], "query")
    assert "dense" not in (await index.search("acme", "instance", vector, 1))[0].why
    await index.embedded(await vectors_of(*CARDS[:2]))
    assert (await index.state("acme")).unembedded == 0
    assert "dense" in (await index.search("acme", "instance", vector, 1))[0].why
    assert (await PostgresToolIndex(engine, "old").state("acme")).unembedded == 2
    await engine.dispose()


async def test_processes_that_change_the_catalogue_at_once_leave_it_whole(index: ToolIndex) -> None:
    async def process(number: int) -> None:
        for turn in range(3):
            changed = [each.model_copy(update={"version": f"{number}.{turn}"}) for each in CARDS]
            await index.put(SHARED, changed)
            await index.put(f"tenant{number % 2}", changed[number % 2 :])
            await index.remove(SHARED, [CARDS[number].name])

    await asyncio.gather(*(process(number) for number in range(4)))
    await index.put(SHARED, CARDS)
    assert (await index.state(SHARED)).cards == len(CARDS)
    for tenant, own in (("tenant0", len(CARDS)), ("tenant1", len(CARDS) - 1)):
        assert (await index.state(tenant)).cards == len(CARDS) + own
    for card_ in CARDS:
        versions = await index.versions(SHARED, card_.name)
        assert versions[-1] == CardVersion(card=card_, since=versions[-1].since)
        for version, following in itertools.pairwise(versions):
            assert version.since < (version.until or 0) <= following.since
    alone = MemoryToolIndex()
    await alone.put(SHARED, CARDS)
    asked = "ECS instances and the weather"
    expected, found = [await each.search("other", asked, None, 9) for each in (alone, index)]
    assert [hit.card for hit in found] == [hit.card for hit in expected]
    assert [hit.why["lexical"] for hit in found] == pytest.approx([hit.why["lexical"] for hit in expected], rel=1e-4)


async def test_of_processes_that_put_the_same_in_at_once_one_does_it(index: ToolIndex) -> None:
    puts = await asyncio.gather(*(index.put(SHARED, CARDS) for _ in range(4)))
    assert sorted(put.changed for put in puts) == [0, 0, 0, len(CARDS)]
    assert len(await index.versions("acme", CARDS[0].name)) == 1


async def test_a_name_that_moved_since_the_caller_looked_is_not_put(index: ToolIndex) -> None:
    mine, theirs = card("RenewInstance", "mine", lane="mine"), card("RenewInstance", "theirs", lane="theirs")
    assert await index.put("acme", [mine], holders={}) == Put(changed=1, unembedded=1)
    for seen in ({}, {"RenewInstance": "another"}):
        with pytest.raises(NameMoved, match="RenewInstance"):
            await index.put("acme", [theirs], holders=seen)
    assert await index.own("acme", ["RenewInstance"]) == [mine]
    await index.put("acme", [theirs], holders={"RenewInstance": "mine"})
    assert await index.own("acme", ["RenewInstance"]) == [theirs]
    await index.remove("acme", ["RenewInstance"])
    with pytest.raises(NameMoved):
        await index.put("acme", [mine], holders={"RenewInstance": "theirs"})


async def test_what_is_a_tenants_own_is_told_apart_from_what_is_shared(index: ToolIndex) -> None:
    await index.put(SHARED, CARDS[:2])
    await index.put("acme", [CARDS[1], CARDS[2]])
    names = [each.name for each in CARDS]
    assert await index.own("acme", names) == [CARDS[1], CARDS[2]]
    assert await index.own(SHARED, names) == CARDS[:2]
    assert await index.own("other", names) == []
