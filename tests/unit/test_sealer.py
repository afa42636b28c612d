"""The sealer over a log and a store in memory: what is sealed when, and what is left to do after a death at any point."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
import pytest
import structlog

from runtime.errors import Unreachable
from runtime.fold import Folded, fold
from runtime.log import Raw
from runtime.memory_broker import MemoryBroker
from runtime.proving import Line, check_chain, prove
from runtime.receipts import checkpoint_of, fact_of, receipt_hash
from runtime.service import Service
from schemas.envelope import Fact
from schemas.errors import ProtocolError
from schemas.events import EffectSettled, RunSealed
from schemas.ids import END_SLOT, RunId, settled_slot
from services.recorder.memory_receipts import MemoryReceiptStore, MemoryShelf
from services.recorder.receipt_ports import ChainBehind, Due
from services.recorder.sealing import AT_ONCE, QUIET_S, RETRY_S, SWEEP_S, Sealer
from services.recorder.service import Recorder
from tests.support.builders import NOW, TENANT, RunUnderTest, ready
from tests.support.builders import fact_of as as_fact
from tests.support.receipts import Keys, pair
from tests.support.simulation import LoopClock, in_virtual_time


@dataclass
class Clock:
    time: datetime = NOW

    def now(self) -> datetime:
        return self.time


@dataclass
class World:
    """A log, a store and a shelf that outlive sealers."""

    log: MemoryBroker = field(default_factory=MemoryBroker)
    store: MemoryReceiptStore = field(default_factory=MemoryReceiptStore)
    shelf: MemoryShelf = field(default_factory=MemoryShelf)
    keys: Keys = field(default_factory=Keys)
    clock: Clock = field(default_factory=Clock)

    def sealer(self, **options: float) -> Sealer:
        return Sealer(self.log, self.store, self.keys, self.clock, self.shelf, **options)  # type: ignore[arg-type]

    async def ended(self, key: str) -> RunId:
        """A run in the log that has ended."""
        run = RunUnderTest(key=key)
        run.begin()
        run.gather()
        run.say(text="noon")
        run.end()
        for stored in run.log:
            assert await self.log.append(stored.fact)
        return run.id

    async def late(self, run: RunId, name: str) -> None:
        event = EffectSettled(call=name, write_key="k", happened=True, by="tools")
        assert await self.log.append(as_fact(event, run, settled_slot(name), role="tools"))

    async def heard(self, sealer: Sealer, run: RunId, after: int = 0) -> None:
        """The recorder has indexed what the log holds of a run."""
        stored = await self.log.read(run)
        folded = fold(run, [each for each in stored if each.fact.kind != "RunSealed"])
        await sealer.heard([(each.fact, each.position) for each in stored if each.position > after], {run: folded})

    async def receipts(self, run: RunId) -> list[RunSealed]:
        """Those that stand in the log."""
        return [each.fact.body for each in await self.log.read(run) if isinstance(each.fact.body, RunSealed)]

    async def verdict(self, run: RunId) -> str:
        raws = await self.log.read_raw(run)
        return prove([Line(each.position, each.data, each.subject) for each in raws], self.keys.first()).verdict


async def test_a_run_that_ended_is_sealed_and_the_log_tells(world: World) -> None:
    run, sealer = await world.ended("one"), world.sealer()
    assert await world.verdict(run) == "unproved"
    await world.heard(sealer, run)
    await sealer.step()

    (event,) = await world.receipts(run)
    assert (event.receipt.number, event.receipt.part, event.receipt.outcome) == (1, 1, "completed")
    assert await world.verdict(run) == "proved"
    assert not await sealer.step() and await world.store.due(NOW + timedelta(days=1), 9) == []


@pytest.fixture
def world() -> World:
    return World()


async def test_runs_that_nobody_noted_are_sealed_when_that_is_asked_for_and_only_once(world: World) -> None:
    run, open_run, sealer = await world.ended("before"), ready(), world.sealer()
    for stored in open_run.log:
        await world.log.append(stored.fact)
    service = Service("recorder", "")
    sealer.answer(service)
    for _ in range(2):
        await service.answers["seal"](orjson.dumps({"tenant": TENANT, "runs": [run, open_run.id]}))
        await sealer.step()
    assert [each.receipt.part for each in await world.receipts(run)] == [1]
    assert await world.receipts(open_run.id) == []
    assert await world.verdict(run) == "proved"
    with pytest.raises(ProtocolError):
        await service.answers["seal"](orjson.dumps({"tenant": TENANT, "runs": ["nothing"]}))


async def test_a_run_that_has_not_ended_is_not_sealed(world: World) -> None:
    run = ready()
    for stored in run.log:
        await world.log.append(stored.fact)
    await world.heard(sealer := world.sealer(), run.id)
    await sealer.step()
    assert await world.receipts(run.id) == []


async def test_what_comes_late_makes_one_amendment_after_a_quiet_time(world: World) -> None:
    run, sealer = await world.ended("one"), world.sealer()
    await world.heard(sealer, run)
    await sealer.step()
    seen = (await world.log.read(run))[-1].position
    await world.late(run, "a")
    await world.late(run, "b")
    await world.heard(sealer, run, seen)
    await sealer.step()
    assert len(await world.receipts(run)) == 1 and await world.verdict(run) == "unproved"

    world.clock.time += timedelta(seconds=QUIET_S)
    await sealer.step()
    first, second = await world.receipts(run)
    assert second.receipt.size == first.receipt.size + 2 and second.receipt.amends == receipt_hash(first.receipt)
    assert await world.verdict(run) == "proved"


async def test_a_fact_that_was_counted_already_makes_no_amendment(world: World) -> None:
    run, sealer = await world.ended("one"), world.sealer()
    await world.late(run, "a")
    await world.heard(sealer, run)
    await sealer.step()
    await world.heard(sealer, run, (await world.log.read(run))[-3].position)
    world.clock.time += timedelta(seconds=QUIET_S)
    await sealer.step()
    assert len(await world.receipts(run)) == 1 and await world.store.due(NOW + timedelta(days=1), 9) == []


class Dies(Exception):
    """The process is gone."""


@pytest.mark.parametrize("where", ["add before", "add after", "append before", "append after", "published before"])
async def test_a_recorder_that_dies_anywhere_leaves_nothing_undone_and_nothing_twice(
    world: World, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [await world.ended(key) for key in ("one", "two")]
    name, when = where.split()
    of = world.log if name == "append" else world.store
    real: Callable[..., Awaitable[object]] = getattr(of, name)

    async def dying(*args: object) -> object:
        if when == "after":
            await real(*args)
        raise Dies

    sealer = world.sealer()
    for run in runs:
        await world.heard(sealer, run)
    with monkeypatch.context() as patched:
        patched.setattr(of, name, dying)
        with pytest.raises(Dies):
            await sealer.step()

    world.clock.time += timedelta(seconds=SWEEP_S)
    await world.sealer().step()  # another one, who has heard nothing
    assert [len(await world.receipts(run)) for run in runs] == [1, 1]
    assert list(check_chain(await world.store.chain(TENANT), world.keys.first(), tenant=TENANT)) == []
    assert [await world.verdict(run) for run in runs] == ["proved", "proved"]


async def test_two_recorders_at_once_number_nothing_twice(world: World) -> None:
    runs = [await world.ended(f"run {number}") for number in range(8)]
    one, two = world.sealer(), world.sealer()
    for run in runs:
        await world.heard(one, run)
        await world.heard(two, run)
    await asyncio.gather(one.step(), two.step())
    chain = await world.store.chain(TENANT)
    assert len(chain) == 8 and list(check_chain(chain, world.keys.first(), tenant=TENANT)) == []


@in_virtual_time
async def test_what_another_recorder_has_sealed_is_not_waited_for() -> None:
    world = World()
    run, one, two = await world.ended("one"), world.sealer(), world.sealer()
    await world.heard(one, run)
    await world.heard(two, run)
    await one.step()
    real, looked = world.store.due, list[datetime]()

    async def due(now: datetime, limit: int, *, but: Collection[str] = ()) -> list[Due]:
        looked.append(now)
        return await real(now, limit, but=but)

    world.store.due = due  # type: ignore[method-assign]
    work = asyncio.create_task(two.work())
    await asyncio.sleep(12 * SWEEP_S)
    work.cancel()
    assert len(looked) <= 13


async def test_commands_that_nobody_answered_are_named(world: World) -> None:
    run = RunUnderTest(key="one")
    run.begin()
    left = {each.id: each.command.kind for each in run.decided}
    run.cancel()
    run.end()
    for stored in run.log:
        await world.log.append(stored.fact)
    for sealer in (world.sealer(), world.sealer()):
        await world.heard(sealer, run.id)
    world.clock.time += timedelta(seconds=SWEEP_S)
    await world.sealer().step()  # it folds the run itself
    (event,) = await world.receipts(run.id)
    left = {id: kind for id, kind in left.items() if kind != "StartTimer"}
    assert left and {each.id: each.kind for each in event.receipt.unanswered} == left


async def test_a_changed_run_gets_no_amendment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run, sealer = await world.ended("one"), world.sealer()
    await world.heard(sealer, run)
    await sealer.step()
    raws = await world.log.read_raw(run)
    changed = [type(raws[0])(raws[0].subject, raws[0].data.replace(b"noon", b"moon") + b" ", 1), *raws[1:]]
    await world.late(run, "a")
    changed += (await world.log.read_raw(run))[len(raws) :]

    async def read_raw(_: RunId, after: int = 0) -> object:
        return changed

    monkeypatch.setattr(world.log, "read_raw", read_raw)
    await world.heard(sealer, run, raws[-1].position)
    world.clock.time += timedelta(seconds=QUIET_S)
    with structlog.testing.capture_logs() as told:
        await sealer.step()
    assert len(await world.store.chain(TENANT)) == 1
    assert [each["event"] for each in told if each["log_level"] == "error"] == ["a sealed run was changed"]


async def test_a_chain_that_is_behind_its_checkpoint_is_not_gone_on_with(world: World) -> None:
    run, sealer = await world.ended("one"), world.sealer()
    await world.heard(sealer, run)
    await sealer.step()
    assert [each.checkpoint.number for each in world.shelf.put_down] == [1]
    told = await world.store.chain(TENANT)
    world.store = MemoryReceiptStore()  # the database was lost

    another, sealer = await world.ended("two"), world.sealer()
    await world.heard(sealer, another)
    with pytest.raises(ChainBehind, match="does not have receipt 1"):
        await sealer.step()
    await sealer.heard([(fact_of(told[0]), 99)], dict[RunId, Folded]())  # the log is read again
    await sealer.step()
    assert [each.receipt.run for each in await world.store.chain(TENANT)] == [run, another]


async def test_a_fact_of_another_tenant_in_a_run_begins_no_receipt_there(world: World) -> None:
    run, sealer = await world.ended("one"), world.sealer()
    event = EffectSettled(call="x", write_key="k", happened=True, by="tools")
    fact = as_fact(event, run, settled_slot("x"), role="tools", tenant="globex")
    assert await world.log.append(fact)
    folded = fold(run, await world.log.read(run))
    await sealer.heard([(fact, 99)], {run: folded})
    world.clock.time += timedelta(seconds=QUIET_S)
    await sealer.step()
    assert await world.store.heads() == {} and await world.store.due(world.clock.time, 9) == []


async def test_receipts_of_strangers_are_not_restored(world: World) -> None:
    stranger = World(keys=Keys([pair("stranger")]))
    run, other = await stranger.ended("one"), stranger.sealer()
    await stranger.heard(other, run)
    await other.step()
    told = await stranger.store.chain(TENANT)
    with structlog.testing.capture_logs() as logged:
        await world.sealer().heard([(fact_of(told[0]), 1)], {})
    assert await world.store.chain(TENANT) == [] and logged[0]["log_level"] == "error"


async def test_another_fact_in_a_receipts_slot_is_told(world: World) -> None:
    stranger = World(keys=Keys([pair("stranger")]))
    run, other = await stranger.ended("one"), stranger.sealer()
    await stranger.heard(other, run)
    await other.step()
    await world.ended("one")
    await world.log.append(fact_of((await stranger.store.chain(TENANT))[0]))
    await world.heard(sealer := world.sealer(), run)
    with structlog.testing.capture_logs() as logged:
        await sealer.step()
    assert "something else stands where a receipt belongs" in [each["event"] for each in logged]


async def test_checkpoints_come_by_number_and_by_time(world: World) -> None:
    sealer = world.sealer(every=2, every_s=60.0)
    numbers: list[list[int]] = []
    for key, pause_s in (("one", 0), ("two", 0), ("three", 0), ("four", 0), ("five", 61)):
        run = await world.ended(key)
        await world.heard(sealer, run)
        world.clock.time += timedelta(seconds=pause_s)
        await sealer.step()
        numbers.append([each.checkpoint.number for each in world.shelf.put_down])
    assert numbers == [[1], [1], [1, 3], [1, 3], [1, 3, 5]]
    last = await world.store.checkpoint(TENANT)
    assert last is not None and last.checkpoint.head == receipt_hash((await world.store.chain(TENANT))[-1].receipt)


async def test_a_log_that_is_away_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run, sealer = await world.ended("one"), world.sealer()
    await world.heard(sealer, run)

    async def away(*_: object) -> None:
        raise Unreachable("Away.")

    with monkeypatch.context() as patched:
        patched.setattr(world.log, "append", away)
        with pytest.raises(Unreachable):
            await sealer.step()
    world.clock.time += timedelta(seconds=RETRY_S)
    await sealer.step()
    assert await world.verdict(run) == "proved"


@in_virtual_time
async def test_while_a_chain_is_behind_it_is_tried_now_and_then() -> None:
    world = World(clock=LoopClock())  # type: ignore[arg-type]  # it goes on with the loop's time
    run, sealer, tries = await world.ended("one"), world.sealer(), list[str]()
    await world.heard(sealer, run)

    async def chain(*_: object) -> list[RunSealed]:
        tries.append("")
        return []

    world.shelf.put(checkpoint_of(TENANT, 3, "a" * 64, key=world.keys.signing(), now=NOW))
    world.store.chain = chain  # type: ignore[method-assign, assignment]
    work = asyncio.create_task(sealer.work())
    with structlog.testing.capture_logs() as told:
        await asyncio.sleep(10 * SWEEP_S)
    work.cancel()
    assert 5 < len(tries) < 15 and told[0]["next"] == "milepost receipts check"


async def test_the_recorder_tells_the_sealer_what_it_has_indexed(world: World) -> None:
    from services.recorder.memory_index import MemoryRunIndex

    sealer, index = world.sealer(), MemoryRunIndex()
    recorder = Recorder(world.log, index, sealer)
    service: Service = recorder.service()
    work = [asyncio.create_task(recorder.record()), asyncio.create_task(sealer.work())]
    run = await world.ended("one")
    async with asyncio.timeout(10):
        while not await world.receipts(run):
            await asyncio.sleep(0.01)
        while (found := await index.show(run)) is None or found.summary.receipt != 1:
            await asyncio.sleep(0.01)
    for task in work:
        task.cancel()
    asked = orjson.dumps({"tenant": TENANT})
    told = orjson.loads(await service.answers["receipts"](asked))
    assert [each["receipt"]["run"] for each in told] == [run] and "nodes" not in told[0]
    assert orjson.loads(await service.answers["checkpoint"](asked))["checkpoint"]["number"] == 1
    assert any(each.slot == END_SLOT for each in found.events)


class Strayed:
    """The log, where somebody has put one more message under a run's subjects."""

    def __init__(self, log: MemoryBroker, run: RunId, stray: Raw) -> None:
        self._log, self._run, self._stray = log, run, stray

    async def read_raw(self, run: RunId, after: int = 0) -> list[Raw]:
        raws = await self._log.read_raw(run, after)
        return [self._stray, *raws] if run == self._run else raws

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


@pytest.mark.parametrize("place", ["{whose}.client.request.x", "{whose}.client", "stranger.conductor.end"])
async def test_whatever_lies_under_a_runs_subjects_it_gets_its_receipt(world: World, place: str) -> None:
    runs, sealer = [await world.ended("one"), await world.ended("two")], world.sealer()
    prefix, _, _ = (await world.log.read_raw(runs[0]))[0].subject.partition(f".{TENANT}.")
    sealer._log = Strayed(world.log, runs[0], Raw(f"{prefix}.{place.format(whose=TENANT)}", b"junk", 0))  # type: ignore[assignment]
    for run in runs:
        await world.heard(sealer, run)
    await sealer.step()
    sizes = {each.receipt.run: each.receipt.size for each in await world.store.chain(TENANT)}
    assert sizes == {runs[0]: len(await world.log.read_raw(runs[0])), runs[1]: len(await world.log.read_raw(runs[1])) - 1}


async def test_a_tenant_whose_chain_is_behind_keeps_no_other_one_waiting(world: World) -> None:
    seen = checkpoint_of("globex", 7, "ab" * 32, key=world.keys.signing(), now=NOW)
    world.shelf.put(seen)
    earlier = NOW - timedelta(minutes=1)
    await world.store.note([Due(tenant="globex", run=f"202611-{n:032x}", position=1, at=earlier) for n in range(AT_ONCE)])
    run, sealer = await world.ended("one"), world.sealer()
    await world.heard(sealer, run)
    with pytest.raises(ChainBehind):
        await sealer.step()
    await sealer.step()
    assert len(await world.receipts(run)) == 1
    assert len(await world.store.due(NOW, 2 * AT_ONCE)) == AT_ONCE, "and they stay due"


async def test_a_receipt_that_the_log_does_not_take_keeps_no_other_one_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, sealer, append = [await world.ended("one"), await world.ended("two")], world.sealer(), world.log.append

    async def refuses(fact: Fact) -> bool:
        if fact.run == runs[0]:
            raise Unreachable("The log refused a fact.")
        return await append(fact)

    monkeypatch.setattr(world.log, "append", refuses)
    for run in runs:
        await world.heard(sealer, run)
    await sealer.step()
    assert [len(await world.receipts(run)) for run in runs] == [0, 1]
    monkeypatch.undo()
    world.clock.time += timedelta(seconds=RETRY_S)
    await sealer.step()
    assert [len(await world.receipts(run)) for run in runs] == [1, 1]


async def test_the_receipt_of_a_run_that_the_log_has_dropped_is_not_put_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, sealer = await world.ended("one"), world.sealer()
    await world.heard(sealer, run)

    async def dropped(*_: object) -> bool:
        return False

    monkeypatch.setattr(world.log, "holds", dropped)
    await sealer.step()
    assert await world.receipts(run) == [] and len(await world.store.unpublished(9)) == 1, "it is not lost either"
