"""What every store of receipts promises, in memory and in Postgres alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import pytest

from infra.postgres.engine import connect
from infra.postgres.receipts import PostgresReceiptStore
from runtime.proving import check_chain
from runtime.receipts import NotTheSame, checkpoint_of, receipt_hash, sealed
from schemas.events import RunSealed
from schemas.ids import RunId
from schemas.receipts import Receipt
from services.recorder.memory_receipts import MemoryReceiptStore
from services.recorder.receipt_ports import Due, Make, ReceiptStore
from tests.support.builders import NOW, run_of
from tests.support.receipts import Keys, counted_as

KEYS = Keys()
ONE, TWO = run_of("one"), run_of("two")


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ReceiptStore]:
    if request.param == "memory":
        yield MemoryReceiptStore()
        return
    engine = connect(request.getfixturevalue("postgres_url"), role="milepost_keeper")
    yield PostgresReceiptStore(engine)
    await engine.dispose()


def make(run: RunId, size: int, *, tenant: str = "acme") -> Make:
    def made(before: Receipt | None, number: int, previous: str) -> RunSealed | None:
        return sealed(counted_as(run, size, tenant), before, number=number, previous=previous, keys=KEYS, now=NOW)

    return made


def due(run: RunId, position: int, after_s: float = 0, tenant: str = "acme") -> Due:
    return Due(tenant=tenant, run=run, position=position, at=NOW + timedelta(seconds=after_s))


async def test_receipts_of_a_tenant_are_one_chain(store: ReceiptStore) -> None:
    made = await store.add("acme", {ONE: make(ONE, 3), TWO: make(TWO, 4)}, {})
    made += await store.add("acme", {ONE: make(ONE, 5)}, {})
    other = await store.add("globex", {ONE: make(ONE, 3, tenant="globex")}, {})

    assert [(each.receipt.number, each.receipt.run, each.receipt.part) for each in made] == [
        (1, ONE, 1),
        (2, TWO, 1),
        (3, ONE, 2),
    ]
    assert list(check_chain(made, KEYS.first(), tenant="acme")) == []
    assert made[2].receipt.amends == receipt_hash(made[0].receipt)
    assert other[0].receipt.number == 1
    assert await store.chain("acme") == made and await store.chain("acme", 1, 1) == made[1:2]
    assert await store.of_run("acme", ONE) == [made[0], made[2]] and await store.of_run("globex", TWO) == []
    assert await store.heads() == {"acme": (3, receipt_hash(made[2].receipt)), "globex": (1, receipt_hash(other[0].receipt))}


async def test_what_counts_no_more_makes_no_receipt(store: ReceiptStore) -> None:
    await store.add("acme", {ONE: make(ONE, 3)}, {})
    assert await store.add("acme", {ONE: make(ONE, 3), TWO: make(TWO, 2)}, {}) == [(await store.chain("acme"))[1]]


async def test_many_at_once_leave_no_gap_and_number_nothing_twice(store: ReceiptStore) -> None:
    runs = [run_of(f"run {number}") for number in range(12)]
    await asyncio.gather(*(store.add("acme", {run: make(run, 2)}, {}) for run in [*runs, *runs]))

    chain = await store.chain("acme")
    assert len(chain) == 12 and list(check_chain(chain, KEYS.first(), tenant="acme")) == []


async def test_a_making_that_fails_leaves_nothing(store: ReceiptStore) -> None:
    def broken(*_: object) -> RunSealed | None:
        raise NotTheSame("Changed.")

    await store.note([due(ONE, 3)])
    with pytest.raises(NotTheSame):
        await store.add("acme", {TWO: make(TWO, 2), ONE: broken}, {ONE: 9, TWO: 9})
    assert await store.chain("acme") == [] and [each.run for each in await store.due(NOW, 9)] == [ONE]
    assert (await store.add("acme", {TWO: make(TWO, 2)}, {}))[0].receipt.number == 1


async def test_of_two_notes_the_later_position_and_the_earlier_moment_hold(store: ReceiptStore) -> None:
    await store.note([due(ONE, 3, 5), due(TWO, 1)])
    await store.note([due(ONE, 2, 1)])
    assert await store.due(NOW, 9) == [due(TWO, 1)]
    assert await store.due(NOW + timedelta(seconds=1), 9) == [due(TWO, 1), due(ONE, 3, 1)]
    assert await store.due(NOW + timedelta(seconds=1), 1) == [due(TWO, 1)]


async def test_a_note_of_a_later_fact_outlives_the_receipt(store: ReceiptStore) -> None:
    await store.note([due(ONE, 3), due(ONE, 3, tenant="globex")])
    await store.add("acme", {ONE: make(ONE, 3)}, {ONE: 2})
    assert len(await store.due(NOW, 9)) == 2
    await store.add("acme", {}, {ONE: 3})
    assert [each.tenant for each in await store.due(NOW, 9)] == ["globex"]
    assert await store.due(NOW, 9, but=["globex"]) == [] and await store.due(NOW, 9, but=["acme"]) != []


async def test_a_receipt_is_unpublished_until_it_is_in_the_log(store: ReceiptStore) -> None:
    made = await store.add("acme", {ONE: make(ONE, 3), TWO: make(TWO, 4)}, {})
    assert await store.unpublished(9) == made and await store.unpublished(1) == made[:1]
    assert await store.unpublished(1, but=[ONE]) == made[1:]
    await store.published(made[:1])
    assert await store.unpublished(9) == made[1:]


async def test_what_the_log_tells_is_restored_and_never_written_over(store: ReceiptStore) -> None:
    other = MemoryReceiptStore()
    one, two = await other.add("acme", {ONE: make(ONE, 3), TWO: make(TWO, 4)}, {})
    assert await store.restore([two]) == [] and await store.restore([one, two]) == []
    assert await store.chain("acme") == [one, two] and await store.unpublished(9) == []
    assert (await store.add("acme", {ONE: make(ONE, 4)}, {}))[0].receipt.number == 3

    fork = await MemoryReceiptStore().add("acme", {TWO: make(TWO, 4)}, {})
    assert await store.restore([one, *fork]) == fork
    assert (await store.chain("acme"))[:2] == [one, two]


async def test_the_last_checkpoint_is_found(store: ReceiptStore) -> None:
    sign = partial(checkpoint_of, "acme", key=KEYS.signing(), now=NOW)
    assert await store.checkpoint("acme") is None
    await store.keep(sign(5, "a" * 64))
    await store.keep(sign(5, "a" * 64))
    await store.keep(sign(7, "b" * 64))
    assert await store.checkpoint("acme") == sign(7, "b" * 64) and await store.checkpoint("globex") is None
