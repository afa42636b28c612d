"""Reading ahead: in order, so many at once, and nothing goes on after the reader has left."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from infra.prefetch import prefetched


class Reads:
    """Reads that end when the test lets them."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.may_end = {number: asyncio.Event() for number in range(10)}

    async def __call__(self, number: int) -> int:
        self.begun.append(number)
        try:
            await self.may_end[number].wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        return number * number


async def test_what_is_read_comes_in_order_though_a_later_read_ends_first() -> None:
    reads = Reads()
    for number in (9, 5, 0, 3, 1, 2, 4, 8, 7, 6):
        reads.may_end[number].set()
    assert [each async for each in prefetched(reads, range(10), ahead=3)] == [number * number for number in range(10)]


async def test_so_many_reads_are_under_way_and_no_more() -> None:
    reads = Reads()
    async with aclosing(prefetched(reads, range(10), ahead=3)) as found:
        first = asyncio.ensure_future(anext(found))
        while len(reads.begun) < 3:
            await asyncio.sleep(0)
        for number in (1, 2):
            reads.may_end[number].set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert reads.begun == [0, 1, 2] and not first.done()
        reads.may_end[0].set()
        assert await first == 0


async def test_reads_are_given_up_when_one_fails_or_nobody_wants_them() -> None:
    async def failing(number: int) -> int:
        if number == 1:
            raise OSError("gone")
        return await reads(number)

    reads = Reads()
    reads.may_end[0].set()
    with pytest.raises(OSError, match="gone"):
        async for _ in prefetched(failing, range(10), ahead=4):
            pass
    assert (reads.begun, reads.cancelled) == ([0, 2, 3], [2, 3])
