"""Ids are derived: equal things get equal ids, different things different ones."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ProtocolError
from schemas.ids import (
    PARTITIONS,
    EventId,
    RunId,
    checked_run,
    checked_token,
    command_id,
    event_id,
    partition_of,
    run_id,
    segment_of,
    segment_of_run,
)

RUN = run_id("acme", "key", "202611")


def test_the_same_key_gives_the_same_run_and_any_other_thing_another() -> None:
    assert run_id("acme", "key", "202611") == RUN
    others = {run_id("acme", "key2", "202611"), run_id("other", "key", "202611"), run_id("acm", "ekey", "202611")}
    assert len(others | {RUN}) == 4


def test_a_run_carries_its_segment() -> None:
    assert segment_of(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)) == "202611"
    assert segment_of_run(RUN) == "202611"
    assert checked_run(RUN) == RUN


@pytest.mark.parametrize(
    "value", ["", "202611", RUN + "\n", RUN + "0", RUN.upper(), "2026-" + RUN, "*", ">", RUN[:-1] + "g", "٢٠٢٦١١" + RUN[6:]]
)
def test_what_is_no_run_id_is_refused(value: str) -> None:
    with pytest.raises(ProtocolError):
        checked_run(value)


@pytest.mark.parametrize("value", ["", "*", ">", "a.b", "a b", "a\n", "\r\n", "ü", "x" * 65, "\x00", "a/b"])
def test_what_may_not_stand_in_a_subject_is_refused(value: str) -> None:
    with pytest.raises(ProtocolError):
        checked_token(value)


@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
def test_a_good_token_is_itself(value: str) -> None:
    assert checked_token(value) == value


def test_runs_spread_over_all_partitions() -> None:
    counts = Counter(partition_of(run_id("acme", str(number), "202611")) for number in range(1600))
    assert set(counts) == set(range(PARTITIONS))
    assert max(counts.values()) < 200


def test_an_event_id_is_its_place() -> None:
    place = (RUN, "acme", "client", "cancel")
    others = {
        event_id(RunId(RUN[:-1] + "0"), "acme", "client", "cancel"),
        event_id(RUN, "other", "client", "cancel"),
        event_id(RUN, "acme", "memory", "cancel"),
        event_id(RUN, "acme", "client", "request"),
    }
    assert len(others | {event_id(*place)}) == 5


def test_a_command_id_is_its_run_cause_and_content_whatever_the_order_of_its_keys() -> None:
    cause = EventId("a" * 32)
    assert command_id(RUN, cause, {"a": 1, "b": 2}) == command_id(RUN, cause, {"b": 2, "a": 1})
    others = {
        command_id(RUN, cause, {"a": 1}),
        command_id(RUN, cause, {"a": 2}),
        command_id(RUN, EventId("b" * 32), {"a": 1}),
        command_id(run_id("acme", "other", "202611"), cause, {"a": 1}),
    }
    assert len(others) == 4


def test_ids_never_change_because_logs_keep_them() -> None:
    assert RUN == "202611-b00f74cff8f1641e811164565b36bfcb"
    assert event_id(RUN, "acme", "client", "request") == "6af629884962792339e9a8818f23b110"
    assert command_id(RUN, EventId("a" * 32), {"kind": "EndRun", "n": 1.5}) == "9c2f976e3cff0a52f28d1347870a90c4"
