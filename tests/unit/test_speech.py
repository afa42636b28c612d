"""Pieces of text in order: each character once, gaps asked for, a new beginning from its beginning."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.memory_broker import MemoryBroker
from runtime.speech import Delta, Listener, hear_text, read_busy, read_delta, read_missed, write_delta, write_missed
from schemas import subjects
from schemas.errors import ProtocolError
from tests.support.builders import run_of


@given(st.text(min_size=1, max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_whatever_order_pieces_come_in_each_character_is_heard_once(text: str, cuts: list[tuple[int, int]]) -> None:
    listener, heard = Listener(), ""
    for start, stop in [*((min(cut), max(cut)) for cut in cuts), (0, len(text))]:
        new = listener.hear(Delta("c", 1, min(start, len(text)), text[start:stop]))
        if new:
            assert new.offset == len(heard)
            heard += new.text
    assert heard == text


def test_a_higher_attempt_begins_anew_and_a_lower_one_is_over() -> None:
    listener = Listener()
    assert listener.hear(Delta("c", 1, 0, "abc"))
    assert listener.hear(Delta("c", 17, 0, "x")) == Delta("c", 17, 0, "x")
    assert listener.hear(Delta("c", 1, 3, "def")) is None
    assert listener.missing(Delta("c", 1, 9, "def")) is None


def test_a_gap_says_from_where_to_tell_again() -> None:
    listener = Listener()
    listener.hear(Delta("c", 2, 0, "abc"))
    late = Delta("c", 2, 5, "fg")
    assert listener.hear(late) is None
    assert listener.missing(late) == (2, 3)


async def test_who_comes_late_asks_for_the_beginning() -> None:
    broker, run, heard, asked = MemoryBroker(), run_of(), [], asyncio.Event()

    async def speaker(subject: str, data: bytes) -> None:
        attempt, offset = read_missed(data)
        asked.set()
        await broker.tell(
            subjects.delta("acme", run, "c" * 32), write_delta(Delta("c" * 32, attempt, offset, "hello world"[offset:]))
        )

    async with broker.hear(subjects.missed("*", "*", "*"), speaker), hear_text(broker, "acme", run, heard.append):
        await broker.tell(subjects.delta("acme", run, "c" * 32), write_delta(Delta("c" * 32, 1, 6, "world")))
        await asyncio.wait_for(asked.wait(), 5)
        while sum(len(delta.text) for delta in heard) < len("hello world"):
            await asyncio.sleep(0)
    assert "".join(delta.text for delta in heard) == "hello world"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"attempt": 0, "offset": 0, "text": ""}', b'{"attempt": 1, "offset": -1, "text": ""}']
)
def test_malformed_pieces_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_delta(data, "c")
    with pytest.raises(ProtocolError):
        read_busy(data, "c")
    if b"-1" in data or len(data) < 3:
        with pytest.raises(ProtocolError):
            read_missed(data)
    assert read_missed(write_missed(3, 4)) == (3, 4)
