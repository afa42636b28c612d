"""What is found out about an effect after its run has ended: everybody who reads the log takes it, and nothing changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra.exports.reading import load_export
from infra.exports.writing import Exported, save_export
from runtime.client import Client
from runtime.conductor import Conductor
from runtime.memory_broker import MemoryBroker
from runtime.replay import replay
from schemas.envelope import encode
from schemas.events import EffectSettled, ToolInDoubt
from schemas.ids import settled_slot
from schemas.policy import Verdict
from services.recorder.memory_index import MemoryRunIndex
from services.recorder.service import Recorder
from tests.support.builders import NOW, TENANT, RunUnderTest, call, fact_of, failure, ready
from tests.support.simulation import LoopClock, in_virtual_time


def doubtful() -> tuple[RunUnderTest, str]:
    """A run that has ended without knowing what came of its write, and the write's command."""
    run = ready()
    run.say(call("renew", months=1))
    (write,) = run.plans(verdict=Verdict(outcome="allow"))
    id = run.id_of(write)
    run.answer(ToolInDoubt(command=write, failure=failure()))
    run.say(text="It is not known.")
    run.end()
    return run, id


@pytest.mark.parametrize("known_before", [True, False])
def test_conductor_recorder_and_followers_take_a_late_fact(known_before: bool) -> None:
    in_virtual_time(lambda: _late(known_before))()


async def _late(known_before: bool) -> None:
    run, command = doubtful()
    settled = EffectSettled(call=command, write_key="k", happened=True, by="tools")
    late = fact_of(settled, run.id, settled_slot(command))
    broker, index = MemoryBroker(), MemoryRunIndex()
    for stored in run.log:
        await broker.append(stored.fact)
    if not known_before:
        await broker.append(late)
    conductor, recorder = Conductor(broker, broker, LoopClock(), name="c"), Recorder(broker, index)
    tasks = [asyncio.create_task(conductor.run()), asyncio.create_task(recorder.record())]
    try:
        while recorder.indexed < len(run.log) or conductor.facts < len(run.log):
            await asyncio.sleep(0.1)  # of virtual time
        if known_before:
            await broker.append(late)
        while recorder.indexed <= len(run.log) or conductor.facts <= len(run.log):
            await asyncio.sleep(0.1)
        assert conductor.failures == 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    shown = await index.show(run.id, TENANT)
    assert shown
    assert (shown.summary.status, shown.summary.answer, len(shown.events)) == (
        "completed",
        "It is not known.",
        len(run.log) + 1,
    )
    assert shown.events[-1].type == "EffectSettled"
    client = Client(broker, broker, LoopClock(), tenant=TENANT)
    seen = [update async for update in client.follow(run.id)]
    assert (len(seen), seen[-1].state.outcome) == (len(run.log), "completed")
    assert (await client.state(run.id)).outcome == "completed"


def test_a_late_fact_is_exported_and_replayed(tmp_path: Path) -> None:
    run, command = doubtful()
    run.tell(EffectSettled(call=command, write_key="k", happened=False, by="ann"), settled_slot(command))
    save_export(tmp_path / "run", Exported(run.id, [encode(stored.fact) for stored in run.log]), NOW)
    found = load_export(tmp_path / "run")
    assert isinstance(found.facts[-1].fact.body, EffectSettled)
    replayed = replay(found.run, found.facts)
    assert (replayed.same, replayed.outcome, replayed.events) == (True, "completed", len(run.log))
