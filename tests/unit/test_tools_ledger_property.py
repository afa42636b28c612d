"""Whatever workers, settlers and persons do, stopped and killed anywhere: one effect a round, and done stays done."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.tools import repeated_key
from services.tools.ledger import Claimed, Done, Intent, Mine, NotYours, Settled
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.writing import LEASE_S

NOW = datetime(2026, 11, 21, tzinfo=UTC)
T = TypeVar("T")


def at_once(work: Coroutine[object, None, T]) -> T:
    """What the ledger in memory answers without waiting."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


@dataclass
class Try:
    """One worker with a claim. held_at: its last look at it; sent: whether its call went out."""

    command: str
    key: str
    token: str
    may_have_been_sent: bool
    held_at: float | None = None
    sent: bool = False


class Workers:
    """Two commands that want the same effect; those that plan after it happened want it once more."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.time = 0.0
        self.ledger = MemoryEffectLedger(lambda: self.time)
        self.effects: Counter[str] = Counter()
        self.planned: dict[str, tuple[str, int]] = {}
        self.tries: list[Try] = []
        self.done: dict[str, str] = {}
        self.tokens = 0

    # --- what a worker does, one step at a time; between any two it may be stopped for any time, or die ---

    def plan(self) -> None:
        number = self.draw.randint(0, 1)
        done = at_once(self.ledger.last_done("acme", "base"))
        times = done.round + 1 if done else 0
        self.planned.setdefault(f"c{number}-{times}", (repeated_key("base", times), times))

    def claim(self) -> None:
        command = self.draw.choice(sorted(self.planned))
        key, times = self.planned[command]
        self.tokens += 1
        token = f"t{self.tokens}"
        intent = Intent(key=key, base="base", round=times, tenant="acme", run="r", command=command, lane="l", tool="t")
        claim = at_once(self.ledger.claim(intent, token, NOW, LEASE_S))
        if isinstance(claim, Claimed | Mine):
            self.tries.append(Try(command, key, token, isinstance(claim, Mine)))
        if isinstance(claim, Done):
            assert self.effects[key] == 1

    def go_on(self) -> None:
        """A worker takes its next step: it asks the provider, holds its claim, sends, or writes down the receipt."""
        one = self.draw.choice(self.tries)
        if one.sent:
            at_once(self.ledger.finish(one.key, "acme", one.command, {"by": one.token}, NOW))
            self.tries.remove(one)
        elif one.may_have_been_sent:
            one.may_have_been_sent, one.sent = False, self.effects[one.key] == 1
        elif one.held_at is not None and self.time - one.held_at < LEASE_S / 2:
            self.effects[one.key] += 1
            one.sent = True
        elif at_once(self.ledger.hold(one.key, "acme", one.token, LEASE_S, sending=True)):
            one.held_at = self.time
        else:
            self.tries.remove(one)

    def give_up(self) -> None:
        """It dies, or says that it was refused, that it does not know, or that it will come again."""
        one, how = self.draw.choice(self.tries), self.draw.choice(["fail", "doubt", "release", "die"])
        with contextlib.suppress(NotYours):
            if how == "fail" and not one.sent and not one.may_have_been_sent:
                at_once(self.ledger.fail(one.key, "acme", one.token, {}, NOW))
            elif how == "doubt":
                at_once(self.ledger.doubt(one.key, "acme", one.token, {}, NOW))
            elif how == "release":
                at_once(self.ledger.release(one.key, "acme", one.token))
        self.tries.remove(one)

    def time_passes(self) -> None:
        self.time += self.draw.choice([0.1, LEASE_S / 2, LEASE_S, LEASE_S, 100.0])

    # --- those who look after it ---

    def settler(self) -> None:
        self.tokens += 1
        token = f"s{self.tokens}"
        for effect in at_once(self.ledger.look_after("l", token, 9, LEASE_S)):
            if effect.told:
                happened = effect.sent_s is not None and self.effects[effect.key] == 1
                settled = at_once(self.ledger.settle(effect.key, "acme", NOW, happened=happened, by="s", token=token))
                assert (settled.state == "done") == happened
            else:
                at_once(self.ledger.told(effect.key, "acme"))

    def person(self) -> None:
        key, _ = self.draw.choice(sorted(self.planned.values()))
        effect = at_once(self.ledger.show("acme", key))
        if effect is None:
            return
        try:
            at_once(self.ledger.settle(key, "acme", NOW, happened=self.effects[key] == 1, by="ann"))
        except (NotYours, Settled):
            assert effect.state in ("committed", "failed")

    # --- what holds always ---

    def at_most_one_effect_a_round(self) -> None:
        assert all(count <= 1 for count in self.effects.values()), self.effects

    def done_stays_done_and_is_true(self) -> None:
        for key, _ in self.planned.values():
            effect = at_once(self.ledger.show("acme", key))
            if key in self.done:
                assert effect and effect.state == "done"
            if effect and effect.state == "done":
                self.done[key] = key
                assert self.effects[key] == 1

    def what_failed_did_not_happen(self) -> None:
        for key, _ in self.planned.values():
            effect = at_once(self.ledger.show("acme", key))
            if effect and effect.state == "failed":
                assert self.effects[key] == 0


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_one_effect_a_round_and_done_stays_done(seed: int) -> None:
    workers = Workers(draw := random.Random(seed))
    workers.plan()
    for _ in range(80):
        steps = [workers.claim, workers.time_passes, workers.plan, workers.settler, workers.person]
        if workers.tries:
            steps += [workers.go_on, workers.go_on, workers.go_on, workers.go_on, workers.give_up, workers.claim]
        draw.choice(steps)()
        workers.at_most_one_effect_a_round()
        workers.done_stays_done_and_is_true()
        workers.what_failed_did_not_happen()
