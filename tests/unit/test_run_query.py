"""Which runs a person means: words, options, moments, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import cast

import pytest

from infra.cli.run_query import BadQuery, filter_of, matching, moment
from infra.cli.runs_search import marks, snippet
from infra.wiring import World
from runtime.bus import ServiceInfo
from runtime.memory_broker import MemoryBroker
from services.recorder.memory_index import MemoryRunIndex
from services.recorder.ports import RunFilter, RunSummary
from services.recorder.service import Recorder

CHINA = timezone(timedelta(hours=8))
NOW = datetime(2026, 11, 21, 12, 30, tzinfo=CHINA)


def asked(query: str, **given: object) -> RunFilter:
    return filter_of(query, {name.replace("_", "-"): value for name, value in given.items()}, now=NOW)


def test_words_are_filters_and_all_others_a_text() -> None:
    assert asked("") == RunFilter()
    assert asked("agent:ops tool:RenewInstance status:failed,cancelled status:open 续费 'two  words'") == RunFilter(
        agent="ops", tool="RenewInstance", status=("failed", "cancelled", "open"), text="续费 two  words"
    )
    assert asked(
        "tokens-over:1000 cost-over:99.5 forks:no fork-of:r1 deep:yes model:qwen conversation:c user:ann"
    ) == RunFilter(
        tokens_over=1000, cost_over=99.5, forks=False, fork_of="r1", deep=True, model="qwen", conversation="c", user="ann"
    )
    assert asked('text:"a: b" c') == RunFilter(text="c a: b")
    assert filter_of(["text:a b", "user:ann"], now=NOW) == RunFilter(text="a b", user="ann")


def test_options_say_the_same_and_add_to_words() -> None:
    same = asked("agent:ops status:open since:2h forks:no tokens-over:3")
    assert asked("agent:ops", status=["open"], since="2h", forks=False, tokens_over=3, user=None) == same


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("90s", NOW - timedelta(seconds=90)), ("2h", NOW - timedelta(hours=2)), ("1.5d", NOW - timedelta(hours=36)),
        ("2w", NOW - timedelta(days=14)), ("30m", NOW - timedelta(minutes=30)),
        ("today", datetime(2026, 11, 21, tzinfo=CHINA)), ("昨天", datetime(2026, 11, 20, tzinfo=CHINA)),
        ("8:05", datetime(2026, 11, 21, 8, 5, tzinfo=CHINA)), ("2026-11-02", datetime(2026, 11, 2, tzinfo=CHINA)),
        ("2026-11-02T08:30", datetime(2026, 11, 2, 8, 30, tzinfo=CHINA)),
        ("2026-11-02T08:30Z", datetime(2026, 11, 2, 8, 30, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_moments(said: str, meant: datetime) -> None:
    assert moment(said, NOW) == meant
    assert asked("", since=said).since == meant


def test_until_a_date_is_until_its_end() -> None:
    assert asked("since:2026-11-20 until:2026-11-20").before == datetime(2026, 11, 21, tzinfo=CHINA)
    assert asked("until:2026-11-20T08:00").before == datetime(2026, 11, 20, 8, tzinfo=CHINA)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("agnet:ops", "no filter 'agnet'"), ("agent:", "without a value"), ("agent:a agent:b", "more than once"),
        ("status:done", "no status"), ("status:open,", "no status"), ("since:soon", "no moment"),
        ("since:2026-13-01", "no moment"), ("since:999999999w", "no moment"), ("until:9999-12-31", "no moment"),
        ("since:1h until:2h", "No run can"),
        ("tokens-over:-1", "no number"), ("cost-over:nan", "no number"), ("cost-over:many", "no number"),
        ("forks:maybe", "yes or no"), ("text:'open", "cannot be read"), ("12:30", "no filter '12'"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(query: str, why: str) -> None:
    with pytest.raises(BadQuery, match=why) as error:
        asked(query)
    assert error.value.hint or error.value.why


async def test_matching_runs_come_page_by_page_without_loss_though_many_began_at_once() -> None:
    index, broker = MemoryRunIndex(), MemoryBroker()
    runs = [
        RunSummary(
            run=f"202611-{n:032x}", tenant="acme" if n % 5 else "other", status="completed", agent="a", user="me",
            conversation="c", task="t", started=NOW + timedelta(seconds=n // 60), seq=n,
        )
        for n in range(300)
    ]  # fmt: skip
    await index.record([], runs)
    recorder = Recorder(broker, index).service()
    await broker.serve(ServiceInfo("recorder", "1", ""), recorder.answers, dict).__aenter__()
    world = cast(World, SimpleNamespace(bus=broker, settings=SimpleNamespace(tenant="acme")))

    found = [each.run async for each in matching(world, RunFilter())]
    assert found == [each.run for each in reversed(runs) if each.tenant == "acme"]
    assert [each.run async for each in matching(world, RunFilter(), 70)] == found[:70]
    assert [each async for each in matching(world, RunFilter(agent="b"))] == []


def test_the_place_of_a_text_is_shown_with_what_stands_around_it() -> None:
    said = "前面的话，" * 30 + "请续费 i-bp1\n三个月" + "，后面的话" * 30
    shown = snippet(said, "续费")
    assert shown.startswith("…") and shown.endswith("…") and "请续费 i-bp1 三个月" in shown and len(shown) < 130
    assert [shown[begin:end] for begin, end in marks(shown, "续费")] == ["续费"]
    assert marks("Renew, RENEW (a.b)", "renew") == [(0, 5), (7, 12)]
    assert marks("axb a.b", "a.b") == [(4, 7)]
