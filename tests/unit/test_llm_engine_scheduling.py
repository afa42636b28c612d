from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest

from services.llm.admission import Admission
from services.llm.engine import DeadlinePassed, Engine, EngineStopped, ModelBusy, Outcome
from services.llm.model import Terms
from services.llm.pace import LEAST, STALL, Pace
from services.llm.scores import Scores
from services.llm.stream import Next, Stream
from tests.support.counting_decoder import CountingDecoder, Greedy, spoken


@contextmanager
def running(decoder: CountingDecoder, *, max_waiting: int = 64, speculate: bool = False) -> Iterator[Engine]:
    engine = Engine(decoder, max_waiting=max_waiting, speculate=speculate)
    try:
        yield engine
    finally:
        if decoder.gate:
            decoder.gate.set()
        engine.close()


def held(*, slots: int = 4, chunk: int = 256) -> tuple[CountingDecoder, threading.Event]:
    gate = threading.Event()
    return CountingDecoder(slots=slots, chunk=chunk, gate=gate), gate


def prompt(length: int, seed: int = 1) -> list[int]:
    return [1 + (seed * 31 + place * 7) % 90 for place in range(length)]


def pieces(events: list[str]) -> list[int]:
    return [int(event.split()[1]) for event in events if event.startswith("read")]


def test_alone_a_prompt_is_read_in_whole_chunks() -> None:
    decoder = CountingDecoder()
    with running(decoder) as engine:
        engine.submit(prompt(700), Greedy(3)).result(30)
    assert pieces(decoder.events) == [256, 256, 188]


def test_whoever_speaks_says_a_token_between_any_two_pieces_of_a_prompt() -> None:
    decoder, gate = held()
    speakers = [Greedy(400, f"speaker {n}", decoder.events) for n in range(3)]
    with running(decoder) as engine:
        started = [engine.submit(prompt(8, n), speaker) for n, speaker in enumerate(speakers)]
        late = engine.submit(prompt(2000, 9), Greedy(1, "long", decoder.events))
        gate.set()
        wait([*started, late], 30)
    begun = max(decoder.events.index(speaker.name) for speaker in speakers)
    events = decoder.events[begun:]
    reads = [place for place, event in enumerate(events) if event.startswith("read")]
    assert len(reads) >= 2000 / 256
    for one, other in itertools.pairwise(reads):
        assert {speaker.name for speaker in speakers} <= set(events[one:other])
    assert max(pieces(events)) <= decoder.chunk
    for n, speaker in enumerate(speakers):
        assert speaker.said == spoken(prompt(8, n), 400)


def test_a_short_prompt_overtakes_a_long_one_and_both_end() -> None:
    decoder, gate = held(slots=3, chunk=64)
    with running(decoder) as engine:
        talk = engine.submit(prompt(4), Greedy(300, "talk", decoder.events))
        long = engine.submit(prompt(3000, 2), Greedy(1, "long", decoder.events))
        short = engine.submit(prompt(100, 3), Greedy(1, "short", decoder.events))
        gate.set()
        wait([talk, long, short], 30)
    assert decoder.events.index("short") < decoder.events.index("long")
    ticks = decoder.events[: decoder.events.index("long")].count("talk")
    assert ticks <= 3100 / LEAST + 5


def test_short_prompts_that_keep_coming_do_not_starve_a_long_one() -> None:
    decoder = CountingDecoder(slots=3, chunk=64)
    begun, told = threading.Event(), threading.Event()
    shorts = 0

    class Long(Greedy):
        def follow(self, scores: Scores) -> Next:
            told.set()
            return super().follow(scores)

    with running(decoder) as engine:

        def another(n: int) -> None:
            def go_on(_: Future[Outcome]) -> None:
                nonlocal shorts
                shorts += 1
                if not told.is_set() and n < 10_000:
                    another(n + 2)

            guide = Greedy(1)
            engine.submit(prompt(60, n % 89), guide, terms=Terms(label=str(n))).add_done_callback(go_on)
            begun.set()

        another(0)
        another(1)
        done = engine.submit([*prompt(3, 99), *prompt(2000, 5)], Long(1))
        done.result(60)
    # It yields for as many ticks as it is long, in PATIENCE tokens; then only those before it go first.
    assert shorts < 2000 / 64 * 2 + 20


def test_how_large_a_piece_is_follows_what_steps_cost() -> None:
    pace = Pace()
    assert pace.piece(256) == LEAST
    for _ in range(50):
        pace.decoded(1, 0.03)
        pace.read(64, 64 * 0.0005)
    assert pace.piece(256) == pytest.approx(STALL * 0.03 / 0.0005, abs=1)
    assert pace.piece(100) == 100
    for _ in range(50):
        pace.read(64, 64 * 0.01)
    assert pace.piece(256) == LEAST
    assert pace.prefill_tok_s == pytest.approx(100, rel=0.05)


def served(submit: Callable[[Engine, list[str]], list[Future[Outcome]]], *, slots: int = 1) -> list[str]:
    """The order in which streams got their first token, when all were there before the first step."""
    decoder, gate = held(slots=slots)
    with running(decoder) as engine:
        blocker = engine.submit([1, 2], Greedy(1), terms=Terms(tenant="blocker"))
        futures = submit(engine, decoder.events)
        gate.set()
        wait([blocker, *futures], 30)
    return [event for event in decoder.events if not event.startswith("read")]


def test_a_tenant_with_few_requests_does_not_wait_for_one_with_many() -> None:
    def submit(engine: Engine, events: list[str]) -> list[Future[Outcome]]:
        many = [engine.submit(prompt(300, n), Greedy(1, "many", events), terms=Terms(tenant="many")) for n in range(40)]
        few = [engine.submit(prompt(300, n), Greedy(1, "few", events), terms=Terms(tenant="few")) for n in range(3)]
        return many + few

    order = served(submit)
    assert [place for place, name in enumerate(order) if name == "few"][-1] <= 7


def test_tenants_share_by_tokens_and_not_by_requests() -> None:
    def submit(engine: Engine, events: list[str]) -> list[Future[Outcome]]:
        heavy = [engine.submit(prompt(1000, n), Greedy(1, "heavy", events), terms=Terms(tenant="heavy")) for n in range(20)]
        light = [engine.submit(prompt(100, n), Greedy(1, "light", events), terms=Terms(tenant="light")) for n in range(40)]
        return heavy + light

    order = served(submit)
    last = max(place for place, name in enumerate(order) if name == "light")
    assert 3 <= order[:last].count("heavy") <= 8  # 4,000 light tokens beside about as many heavy ones


def test_interactive_goes_first_and_batch_is_not_starved() -> None:
    def submit(engine: Engine, events: list[str]) -> list[Future[Outcome]]:
        batch = [engine.submit(prompt(9, n), Greedy(1, "batch", events), terms=Terms(batch=True)) for n in range(4)]
        return batch + [engine.submit(prompt(9, n), Greedy(1, "talk", events)) for n in range(40)]

    order = served(submit)
    places = [place for place, name in enumerate(order) if name == "batch"]
    assert places[0] >= 5
    assert all(other - one <= 8 for one, other in itertools.pairwise([0, *places]))


def test_a_tenant_that_floods_is_refused_while_others_still_enter() -> None:
    decoder, gate = held(slots=2)
    with running(decoder, max_waiting=12) as engine:
        flood = [engine.submit(prompt(5, n), Greedy(2), terms=Terms(tenant="flood")) for n in range(14)]
        with pytest.raises(ModelBusy) as refused:
            for n in range(3):  # one more while the first two are on their way to their slots
                flood.append(engine.submit(prompt(5, n), Greedy(2), terms=Terms(tenant="flood")))
        assert refused.value.tenant == "flood"
        assert refused.value.limit == 12
        assert refused.value.retry_after_s > 0
        assert "flood" in str(refused.value)
        others = [engine.submit(prompt(5), Greedy(2), terms=Terms(tenant="other")) for _ in range(2)]
        assert engine.stats()["waiting"] <= 16
        gate.set()
        assert not wait([*flood, *others], 30).not_done
        assert engine.submit(prompt(5), Greedy(2), terms=Terms(tenant="flood")).result(30)


def test_however_many_flood_the_waiting_room_is_bounded_and_has_a_place_left() -> None:
    room, entered = Admission(slots=1, max_waiting=30), Counter[str]()
    room.enter(Stream([1], Greedy(1), Terms(tenant="running")))
    assert room.take()
    floods = ["a", "b", "c", "d"]
    for tenant in floods * 60:
        try:
            room.enter(Stream([1], Greedy(1), Terms(tenant=tenant)))
            entered[tenant] += 1
        except ModelBusy as refused:
            assert refused.limit == entered[tenant]
    assert max(entered.values()) - min(entered.values()) <= 1
    assert 30 <= room.waiting <= 40
    room.enter(Stream([1], Greedy(1), Terms(tenant="another")))


def test_a_newcomer_gets_a_slot_of_a_tenant_that_holds_all_and_that_one_goes_on_later() -> None:
    decoder = CountingDecoder(slots=2)
    with running(decoder) as engine:
        flood = [Greedy(2500, f"flood {n}", decoder.events) for n in range(2)]
        futures = [engine.submit(prompt(20, n), guide, terms=Terms(tenant="flood")) for n, guide in enumerate(flood)]
        assert all(guide.asked.wait(30) for guide in flood)
        engine.submit(prompt(30, 7), Greedy(5, "new", decoder.events), terms=Terms(tenant="new")).result(30)
        assert not any(future.done() for future in futures)
        wait(futures, 60)
    for n, guide in enumerate(flood):
        assert guide.said == spoken(prompt(20, n), 2500)


def test_batch_gives_its_slot_to_interactive_and_goes_on_later() -> None:
    decoder = CountingDecoder(slots=1)
    with running(decoder) as engine:
        batch = Greedy(2500)
        slow = engine.submit(prompt(20), batch, terms=Terms(batch=True))
        assert batch.asked.wait(30)
        engine.submit(prompt(30, 7), Greedy(5)).result(30)
        assert not slow.done()
        slow.result(60)
    assert batch.said == spoken(prompt(20), 2500)


@pytest.mark.parametrize(("count", "max_waiting"), [(10_000, 64), (2_000, 2_000)])
def test_thousands_of_requests_at_once_are_served_or_refused(count: int, max_waiting: int) -> None:
    began = time.process_time()
    decoder = CountingDecoder(slots=4, capacity=64)

    def ask(n: int) -> Future[Outcome] | None:
        try:
            return engine.submit(prompt(6, n), Greedy(1), terms=Terms(tenant=f"tenant {n % 200}"))
        except ModelBusy:
            return None

    with running(decoder, max_waiting=max_waiting) as engine, ThreadPoolExecutor(4) as threads:
        futures = [future for future in threads.map(ask, range(count)) if future]
        assert not wait(futures, 60).not_done
        assert all(future.result().total_s >= 0 for future in futures)
        assert engine.stats()["waiting"] == 0
    assert len(futures) == count or max_waiting < count
    assert time.process_time() - began < 5


def test_ten_thousand_tenants_cost_no_more_than_one() -> None:
    room = Admission(slots=1, max_waiting=10_000)
    streams = [Stream([1] * 50, Greedy(1), Terms(tenant=str(n))) for n in range(10_000)]
    began = time.process_time()
    for stream in streams:
        room.enter(stream)
    taken = [room.take() for _ in streams]
    assert taken == streams
    assert room.take() is None
    assert time.process_time() - began < 3


def test_cancelled_requests_leave_the_waiting_room_at_once() -> None:
    decoder, gate = held(slots=1)
    with running(decoder, max_waiting=4) as engine:
        first = Greedy(2)
        engine.submit(prompt(5), first)
        for _ in range(200):
            assert engine.submit(prompt(5), Greedy(2)).cancel()
        assert engine.stats()["waiting"] <= 1
        gate.set()


def test_a_deadline_ends_what_waits_without_computing_and_what_runs_at_its_next_step() -> None:
    decoder = CountingDecoder(slots=1)
    with running(decoder) as engine:
        endless = Greedy(4000)
        running_out = engine.submit(prompt(5), endless, terms=Terms(deadline=time.monotonic() + 0.2, tenant="a"))
        assert endless.asked.wait(30)
        never = Greedy(1)
        waiting = engine.submit(prompt(6), never, terms=Terms(deadline=time.monotonic() - 1, batch=True, tenant="a"))
        with pytest.raises(DeadlinePassed, match="deadline"):
            waiting.result(30)
        try:
            running_out.result(30)
        except DeadlinePassed as passed:
            assert "speaking" in passed.why
            assert len(endless.said) < 4000
        assert not never.said
        assert engine.submit(prompt(5), Greedy(1)).result(30)


@pytest.mark.parametrize("part", ["_admit", "_seat"])
def test_a_defect_of_the_engine_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    decoder, gate = held(slots=1)
    engine = Engine(decoder)
    futures = [engine.submit(prompt(5, n), Greedy(3)) for n in range(4)]

    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(engine, part, broken)
    gate.set()
    for future in futures:
        with pytest.raises(EngineStopped):
            future.result(30)
    with pytest.raises(EngineStopped):
        engine.submit(prompt(5), Greedy(1))
    engine.close()


def test_a_decoder_that_fails_ends_the_streams_of_that_step_and_their_cache() -> None:
    class Failing(CountingDecoder):
        def step(self, first, tokens, past, *, every=False):  # type: ignore[no-untyped-def]
            if 96 in tokens:
                raise RuntimeError("out of memory")
            return super().step(first, tokens, past, every=every)

    decoder = Failing(slots=2)
    with running(decoder) as engine:
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.submit([*prompt(300), 96], Greedy(1)).result(30)
        assert engine.submit(prompt(300), Greedy(1)).result(30).cached_tokens == 0


def test_stats_tell_how_it_is_doing() -> None:
    decoder = CountingDecoder(slots=2, capacity=1024)
    with running(decoder) as engine:
        engine.submit(prompt(500), Greedy(20)).result(30)
        stats = engine.stats()
    assert stats["slots"] == 2
    assert stats["running"] == stats["waiting"] == 0
    assert stats["cached_share"] == pytest.approx(519 / 2048)
    assert stats["decode_tok_s"] > 0
    assert stats["prefill_tok_s"] > 0
