"""Forks among processes that die: all of them end, each is replayed as it was, and nothing is written by any."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

import pytest

from runtime.client import Client
from runtime.forking import Change, NotForked, Original
from runtime.log import Stored
from runtime.memory_broker import MemoryBroker
from runtime.replay import replay
from runtime.service import Worker
from runtime.steps import RECORDED_LANE
from schemas.commands import CallTool, JudgeCall, KeepGrant, RecallMemory, StoreTurn
from schemas.envelope import encode
from schemas.events import AnswerCopied, Answered, RunCancelled
from schemas.ids import RunId
from services.recorder.forking import Forker, Past
from services.recorder.recorded_lane import recorded_lane
from tests.support.simulation import TENANT, Cluster, Process


def past_of(log: MemoryBroker | Process) -> Past:
    async def past(run: RunId) -> Sequence[tuple[Stored, bytes]]:
        return [(stored, encode(stored.fact)) for stored in await log.read(run)]

    return past


class ForkingCluster(Cluster):
    """As a cluster, with two recorders; every run that ended is forked somewhere, twice."""

    NAMES: ClassVar[tuple[str, ...]] = (*Cluster.NAMES, "forker", "recorded")

    def __init__(self, seed: int, *, kills: int = 2) -> None:
        super().__init__(seed, kills=kills)
        self.forks: dict[RunId, RunId] = {}
        self.effects_before = 0

    async def _start(self, name: str, process: Process) -> None:
        if name == "forker":
            await Forker(process, past_of(process), self.clock, name="f").run()
        elif name == "recorded":
            service = recorded_lane(process, past_of(process))
            service.ack_wait_s = 5.0
            await Worker(service, process, process, self.clock, name="r").run(drain_s=0.001)
        else:
            await super()._start(name, process)

    async def _afterwards(self) -> None:
        self.effects_before = sum(self.world.effects.values())
        client = Client(self.broker, self.broker, self.clock, tenant=TENANT, user="ann")
        draw = random.Random(self.seed)
        for run in [each for each in self.runs for _ in range(2)]:
            original = Original(run, await past_of(self.broker)(run))
            places = [told.number for told in original.told if told.decides]
            change = Change(reads=draw.choice(["recorded", "live"]), writes=draw.choice(["dry_run", "simulated"]))
            try:
                asked = await client.fork(original, draw.choice(places), change)
            except NotForked as error:
                assert "has not begun its turn" in error.what
                continue
            self.forks[asked.run] = run
        for fork in self.forks:
            await self._ended(fork)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_forks_end_and_change_nothing_however_often_processes_die(seed: int) -> None:
    cluster = ForkingCluster(seed)
    cluster.play(runs=3)
    assert cluster.killed and cluster.forks
    assert sum(cluster.world.effects.values()) == cluster.effects_before
    for fork in cluster.forks:
        log = cluster.log_of(fork)
        replayed = replay(fork, log)
        assert replayed.same, replayed.divergence
        assert replayed.outcome in ("completed", "failed", "cancelled")
        assert not [each for each in log if isinstance(each.fact.body, RunCancelled) and "recorder" in each.fact.body.by]
        assert len({stored.fact.slot for stored in log}) == len(log)
        commands = [stored.fact.body.command for stored in log if isinstance(stored.fact.body, Answered)]
        assert not [each for each in commands if isinstance(each, RecallMemory | StoreTurn | JudgeCall | KeepGrant)]
        writes = [each for each in commands if isinstance(each, CallTool) and each.write_key]
        assert all(each.host == RECORDED_LANE for each in writes)
        copied = [stored.fact.body for stored in log if isinstance(stored.fact.body, AnswerCopied)]
        assert {each.run for each in copied} == {cluster.forks[fork]}
