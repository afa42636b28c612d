from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import wait

import pytest

from services.llm.engine import Engine
from services.llm.model import Terms
from services.llm.slots import Slots
from services.llm.stream import Stream
from tests.support.counting_decoder import CountingDecoder, Greedy, spoken


def prompt(length: int, seed: int = 1) -> list[int]:
    return [1 + (seed * 31 + place * 7 + place * place * seed) % 90 for place in range(length)]


def fill(slots: Slots, prompts: Sequence[list[int]]) -> None:
    """Every prompt is read to its end, one after the other."""
    for turn, tokens in enumerate(prompts):
        stream = Stream(tokens, Greedy(1), Terms())
        slot, _ = slots.room(stream)
        source, shared = slots.source(tokens)
        slots.reuse(source, slot, shared)
        slot.extend(tokens[shared:])
        slot.used = turn + 1


def test_a_hot_shared_beginning_outlives_what_nobody_asks_for_again() -> None:
    """An LRU of whole slots would lose the beginning with the first four other prompts."""
    slots, cards = Slots(4, 2048), prompt(500)
    fill(slots, [[*cards, *prompt(20, seed)] for seed in range(2, 6)])
    fill(slots, [prompt(90, seed) for seed in range(10, 22)])
    assert slots.source([*cards, 1, 2])[1] == len(cards)


def test_what_two_slots_hold_is_given_up_once() -> None:
    slots, cards = Slots(3, 2048), prompt(500)
    fill(slots, [[*cards, 7], [*cards, 8], prompt(300, 3)])
    slot, _ = slots.room(Stream(prompt(200, 4), Greedy(1), Terms()))
    assert slot.tokens.tolist() == [*cards, 7]


def test_a_beginning_that_nobody_asks_for_any_more_fades() -> None:
    slots, cards = Slots(2, 2048), prompt(500)
    fill(slots, [[*cards, seed] for seed in range(1, 8)])
    fill(slots, [prompt(400, seed) for seed in range(2, 80)])
    assert slots.source(cards)[1] < 400


def test_a_prompt_that_only_changes_its_end_stays_in_its_slot_when_others_are_dearer() -> None:
    slots = Slots(2, 2048)
    fill(slots, [prompt(500), prompt(500, 2)])
    slot, known = slots.room(Stream([*prompt(480), 1, 2], Greedy(1), Terms()))
    assert known == 480
    assert slot.tokens.tolist() == prompt(500)


def test_streams_that_begin_alike_and_come_together_read_their_beginning_once() -> None:
    gate = threading.Event()
    decoder = CountingDecoder(slots=4, gate=gate)
    engine = Engine(decoder)
    guides = [Greedy(5) for _ in range(4)]
    futures = [engine.submit([*prompt(600), n + 1, 2], guide) for n, guide in enumerate(guides)]
    gate.set()
    wait(futures, 30)
    engine.close()
    assert sorted(future.result().cached_tokens for future in futures) == [0, 600, 600, 600]
    assert [guide.said for guide in guides] == [spoken([*prompt(600), n + 1, 2], 5) for n in range(4)]


def test_turns_of_a_run_stay_in_its_slot() -> None:
    decoder = CountingDecoder(slots=3)
    engine = Engine(decoder)
    history, said = prompt(200), 0
    for turn in range(4):
        guide = Greedy(6)
        outcome = engine.submit(history, guide, terms=Terms(label="run")).result(30)
        assert outcome.cached_tokens == said
        engine.submit(prompt(100, turn + 5), Greedy(2), terms=Terms(label=f"other {turn % 2}")).result(30)
        said = len(history) + len(guide.said) - 1
        history = [*history, *guide.said, 50, 51, 52]
    engine.close()
    assert decoder.forks == []


def test_a_slot_that_is_full_is_not_harmed_by_its_neighbours() -> None:
    """Rows between live ones write a token behind the slot's last one; a full slot has no such place."""
    decoder = CountingDecoder(slots=3, capacity=64)
    engine = Engine(decoder)
    for seed in (1, 2, 3):
        engine.submit(prompt(60, seed), Greedy(5), terms=Terms(label=str(seed))).result(30)
    ends = [Greedy(30) for _ in range(2)]
    for future in [engine.submit([9, n, 9], end, terms=Terms(label=str(n))) for n, end in zip((1, 3), ends, strict=True)]:
        future.result(30)
    again = Greedy(2)
    outcome = engine.submit([*prompt(60, 2), *spoken(prompt(60, 2), 2)], again).result(30)
    engine.close()
    assert outcome.cached_tokens == 61
    assert again.said == spoken([*prompt(60, 2), *spoken(prompt(60, 2), 2)], 2)


@pytest.mark.parametrize("slots", [4, 256])
def test_looking_a_prompt_up_costs_less_than_a_step(slots: int) -> None:
    held = Slots(slots, 4096)
    fill(held, [prompt(3000, seed) for seed in range(1, 5)])
    began = time.process_time()
    for _ in range(10):
        held.source(prompt(3000, 3))
    assert (time.process_time() - began) / 10 < 0.02


def test_what_was_read_for_a_person_who_is_forgotten_is_not_reused_nor_kept() -> None:
    engine = Engine(CountingDecoder(slots=2, capacity=256))
    try:
        engine.submit(prompt(100), Greedy(2)).result(10)
        assert engine.submit([*prompt(100), 5], Greedy(2)).result(10).cached_tokens >= 100
        engine.forget()
        outcome = engine.submit([*prompt(100), 6], Greedy(2)).result(10)
        assert outcome.cached_tokens == 0
        engine.forget()  # nobody waits: the thread is woken for it
        deadline = time.monotonic() + 10
        while engine.stats()["cached_share"] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.stats()["cached_share"] == 0
    finally:
        engine.close()
