"""Forgetting a person, in one process: what is left afterwards, and that no interruption leaves it half done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
import pytest

from runtime.client import Client
from runtime.conductor import Conductor
from runtime.errors import Unreachable
from runtime.fold import fold
from runtime.memory_broker import MemoryBroker
from runtime.replay import replay
from runtime.sealing import Erased, Sealing
from runtime.service import Context, Service, Worker
from schemas import subjects
from schemas.commands import Generate
from schemas.envelope import new_fact
from schemas.events import AnyEvent, CancelRequested, Generated
from schemas.ids import CANCEL_SLOT, RunId
from schemas.messages import Generation
from schemas.sealing import Sealed
from schemas.tools import Value
from services.memory.forgetting import Forgetter, Report, RunsOpen
from services.memory.memory_keys import MemoryKeyStore
from services.memory.memory_store import MemoryConversationStore
from services.memory.service import memory_service
from services.policy.memory_store import MemoryPolicyStore
from services.policy.questions import Questions
from services.policy.service import policy_service
from services.recorder.memory_index import MemoryRunIndex
from services.recorder.ports import ERASED, RunFilter
from services.recorder.service import Recorder
from services.tools.ledger import FORGOTTEN, Done, Intent
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.service import Toolbox
from tests.support.builders import TENANT, spec
from tests.support.sealing import CANARY, Keys
from tests.support.simulation import LoopClock, in_virtual_time, working

AGENT = spec(tool_k=0, knowledge_k=0)


class Removed(Value):
    turns: int


class Rows:
    """PersonalRows in a counter."""

    def __init__(self) -> None:
        self.kept: Counter[tuple[str, str]] = Counter()

    async def forget_user(self, tenant: str, user: str) -> Removed:
        return Removed(turns=self.kept.pop((tenant, user), 0))


@dataclass
class Stage:
    """A conductor and services over one broker that seals."""

    store: MemoryKeyStore = field(default_factory=MemoryKeyStore)
    index: MemoryRunIndex = field(default_factory=MemoryRunIndex)
    ledger: MemoryEffectLedger = field(default_factory=MemoryEffectLedger)
    rows: Rows = field(default_factory=Rows)
    clock: LoopClock = field(default_factory=LoopClock)

    def __post_init__(self) -> None:
        self.keys = Keys(self.store)
        self.broker = MemoryBroker(Sealing(self.keys, seal_new=True))
        self.recorder = Recorder(self.broker, self.index)
        self.conductor = Conductor(self.broker, self.broker, self.clock, name="c")
        self.prompts: list[str] = []

    def client(self, user: str) -> Client:
        return Client(self.broker, self.broker, self.clock, tenant=TENANT, user=user)

    def forgetter(self, kill: Kill | None = None) -> Forgetter:
        parts = [self.store, self.store, self.rows, self.broker, self.broker]
        if kill:
            parts = [Mortal(part, kill) for part in parts]
        return Forgetter(*parts, self.clock, name="m")  # type: ignore[arg-type]

    def llm(self) -> Service:
        service = Service("llm", "answers, or thinks for ever")

        @service.on(Generate)
        async def generate(command: Generate, context: Context) -> AnyEvent:
            self.prompts.append(str(context.material))
            if "for ever" in self.prompts[-1]:
                await asyncio.Event().wait()
            return Generated(command=command, generation=Generation(text=CANARY if CANARY in self.prompts[-1] else "Noted."))

        return service

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        tools = Toolbox([], self.ledger, self.clock, lane="builtin").service()
        rules = MemoryPolicyStore()
        policy = policy_service(rules, self.clock, questions=Questions(rules, self.clock, self.broker.tell))
        services = [self.llm(), memory_service(MemoryConversationStore(), self.clock), tools, policy, self.recorder.service()]
        workers = [Worker(each, self.broker, self.broker, self.clock, name="w").run(drain_s=0.1) for each in services]
        async with working(self.conductor.run(), self.recorder.record(), *workers):
            yield

    async def ended(self, client: Client, task: str) -> RunId:
        asked = await client.ask(task, agent=AGENT)
        async for _ in client.follow(asked.run):
            pass
        return asked.run

    async def ask_to_forget(self, forgetter: Forgetter, user: str = "ann") -> str:
        raw = orjson.dumps({"tenant": TENANT, "user": user, "by": "operator"})
        return str(orjson.loads(await forgetter.forget(raw))["id"])

    async def report(self, id: str) -> Report:
        found = await self.store.get(TENANT, id)
        assert found is not None and found.finished is not None
        return found.report


class Killed(Exception):
    """The process is gone."""


class Kill:
    """Kills at the count-th call of whatever the forgetter stands on: before it, or after it was done."""

    def __init__(self, count: int, *, after: bool) -> None:
        self.left, self.after = count, after


class Mortal:
    def __init__(self, part: object, kill: Kill) -> None:
        self._part, self._kill = part, kill

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        method = getattr(self._part, name)

        async def call(*args: object, **named: object) -> object:
            self._kill.left -= 1
            if self._kill.left == 0 and not self._kill.after:
                raise Killed
            result = await method(*args, **named)
            if self._kill.left == 0:
                raise Killed
            return result

        return call


async def _lived(stage: Stage) -> tuple[RunId, RunId, RunId]:
    """Ann has a run that ended, with an effect, and one that is open; Bob has one that ended."""
    ann, bob = stage.client("ann"), stage.client("bob")
    done, theirs = await stage.ended(ann, CANARY), await stage.ended(bob, "bob asks")
    await stage.ledger.claim(_intent(done, "c1", who=CANARY), "t1", stage.clock.now(), 1.0)
    await stage.ledger.finish("key", TENANT, "c1", {"text": CANARY}, stage.clock.now())
    stage.rows.kept[TENANT, "ann"] = 3
    still = (await ann.ask(f"think for ever of {CANARY}", agent=AGENT)).run
    async for update in ann.follow(still):
        if any(isinstance(each, Generate) for each in update.state.outstanding.values()):
            break
    return done, still, theirs


def _intent(run: RunId, command: str, **arguments: object) -> Intent:
    return Intent(
        key="key", base="key", tenant=TENANT, run=run, command=command, lane="builtin", tool="renew", arguments=arguments
    )


async def _forgotten(stage: Stage, done: RunId, still: RunId, theirs: RunId) -> None:
    """Nothing of Ann is left anywhere, and everything of Bob."""
    for run in (done, still):
        facts = await stage.broker.read(run)
        clear = [each.fact.body for each in facts if not isinstance(each.fact.body, Sealed)]
        assert facts and all(isinstance(body, CancelRequested) for body in clear)
        assert fold(run, facts).state.erased
        with pytest.raises(Erased):
            await stage.client("ann").state(run)
        record = await stage.index.show(run)
        assert record and record.summary.task == ERASED and {each.summary for each in record.events} == {ERASED}
        assert record.summary.status in ("completed", "cancelled")
    again = await stage.ledger.claim(_intent(done, "c2"), "t2", stage.clock.now(), 1.0)
    assert again == Done(receipt=FORGOTTEN, by="c1")
    assert not stage.rows.kept
    assert await stage.store.destroy(TENANT, "ann") == ()
    facts = await stage.broker.read(theirs)
    assert replay(theirs, facts).same and replay(theirs, facts).outcome == "completed"
    kept = await stage.index.show(theirs)
    assert kept and kept.summary.task == "bob asks"


@in_virtual_time
async def test_what_was_said_in_a_run_that_has_ended_stays_in_no_process() -> None:
    stage = Stage()
    async with stage.working():
        run = await stage.ended(stage.client("ann"), CANARY)
        kept = stage.conductor._runs[run].folded
        async with asyncio.timeout(60):
            while stage.recorder._sums or kept.state.request:
                await asyncio.sleep(0.05)
        late = CancelRequested(by="somebody")
        await stage.broker.append(new_fact(
            late, run=run, tenant=TENANT, slot=CANCEL_SLOT, source="/milepost/client/x", time=stage.clock.now()
        ))  # fmt: skip
        indexed = stage.recorder.indexed
        async with asyncio.timeout(60):
            while stage.recorder.indexed == indexed:
                await asyncio.sleep(0.05)
    (shown,) = await stage.index.list_runs(RunFilter())
    assert (shown.status, shown.answer, kept.state.phase) == ("completed", CANARY, "ended")
    assert CANARY not in str(kept)


@in_virtual_time
async def test_a_person_is_forgotten_everywhere_and_nobody_else() -> None:
    stage = Stage()
    async with stage.working():
        runs = await _lived(stage)
        forgetter = stage.forgetter()
        id = await stage.ask_to_forget(forgetter)
        async with working(forgetter.work()):
            async with asyncio.timeout(300):
                while (await stage.store.unfinished()) != []:
                    await asyncio.sleep(0.1)
        report = await stage.report(id)
        assert (report.cancelled, report.keys, report.runs, report.effects, report.unsealed) == (1, 1, 2, 1, 0)
        assert report.memory == {"turns": 3} and report.events > 5
        await _forgotten(stage, *runs)
        assert CANARY not in str(vars(stage.recorder)) and CANARY not in str(vars(stage.conductor))
        again = await stage.ended(stage.client("ann"), "back again")
        assert not fold(again, await stage.broker.read(again)).state.erased


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_step_it_is_gone_on_with(after: bool) -> None:
    steps = 0
    for count in range(1, 60):
        survived = [False]

        @in_virtual_time
        async def one(count: int = count, survived: list[bool] = survived) -> None:
            stage = Stage()
            async with stage.working():
                runs = await _lived(stage)
                id = await stage.ask_to_forget(stage.forgetter())
                (begun,) = await stage.store.unfinished()
                try:
                    await stage.forgetter(Kill(count, after=after)).carry_out(begun)
                    survived[0] = True
                except Killed:
                    for each in await stage.store.unfinished():  # what the next process finds
                        await stage.forgetter().carry_out(each)
                await stage.report(id)
                await _forgotten(stage, *runs)

        one()
        if survived[0]:
            break
        steps = count
    assert survived[0] and steps > 8


@in_virtual_time
async def test_a_run_that_does_not_end_keeps_the_key_until_it_has() -> None:
    stage = Stage()
    ann = stage.client("ann")
    async with working(stage.recorder.record()):
        run = (await ann.ask(CANARY, agent=AGENT)).run  # nobody conducts it
        async with asyncio.timeout(60):
            while await stage.index.runs_of(TENANT, "ann", open=True) != [run]:
                await asyncio.sleep(0.1)
        service = stage.recorder.service()
        async with working(Worker(service, stage.broker, stage.broker, stage.clock, name="r").run(drain_s=0.1)):
            await asyncio.sleep(0)
            forgetter = stage.forgetter()
            id = await stage.ask_to_forget(forgetter)
            (begun,) = await stage.store.unfinished()
            with pytest.raises(RunsOpen):
                await forgetter.carry_out(begun)
    slots = [each.fact.slot for each in await stage.broker.read(run)]
    assert slots == ["request", CANCEL_SLOT] and (await ann.state(run)).request
    found = await stage.store.get(TENANT, id)
    assert found and found.finished is None and found.user == "ann"


@in_virtual_time
async def test_without_its_helpers_it_waits_and_says_for_what() -> None:
    stage = Stage()
    forgetter = stage.forgetter()
    id = await stage.ask_to_forget(forgetter)
    (begun,) = await stage.store.unfinished()
    with pytest.raises(Unreachable):
        await forgetter.carry_out(begun)
    async with working(forgetter.work()):
        await asyncio.sleep(5)
    told = orjson.loads(await forgetter.forgetting(orjson.dumps({"tenant": TENANT, "id": id})))
    assert told["finished"] is None and subjects.question("recorder", "runs_of") in told["report"]["waiting_for"]


@in_virtual_time
async def test_a_run_whose_key_is_destroyed_under_way_is_dropped_and_nothing_is_sent_again() -> None:
    stage = Stage()
    async with stage.working():
        ann = stage.client("ann")
        run = (await ann.ask("think for ever", agent=AGENT)).run
        async with asyncio.timeout(60):
            while not stage.prompts:
                await asyncio.sleep(0.1)
        await stage.store.destroy(TENANT, "ann")
        before = len(await stage.broker.read(run))
        await asyncio.sleep(3600)  # sweeps come by, and go
        assert len(await stage.broker.read(run)) == before and len(stage.prompts) == 1
        assert stage.conductor.stats()["runs"] == 0
        assert await stage.ended(stage.client("bob"), "bob asks")
