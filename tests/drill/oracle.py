"""The judge: compares what clients were promised with the log, the cloud's journal and the recorder's index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from infra.postgres import engine
from infra.postgres.run_index import PostgresRunIndex
from infra.wiring import World
from runtime.log import Stored
from runtime.replay import replay
from schemas import subjects
from schemas.events import TERMINAL, RunCompleted, RunSealed, StepFailed, ToolFailed, ToolInDoubt
from schemas.ids import RunId
from services.recorder.ports import RunRecord
from tests.drill.people import Diary, Effect
from tests.support.stack import LocalStack, persist, timeline

INDEX_LIMIT_S = 45.0
QUIET_LIMIT_S = 45.0


@dataclass(slots=True)
class Verdict:
    """What was counted, and every violation with the run it is about."""

    facts: int = 0
    effects: int = 0
    replayed: int = 0
    indexed: int = 0
    buried: int = 0
    commands_left: int = 0
    violations: list[str] = field(default_factory=list)


async def judge(stack: LocalStack, world: World, diary: Diary) -> Verdict:
    """Read everything once all is quiet; nothing that a client was promised may be missing or doubled."""
    verdict = Verdict()
    verdict.violations += [f"run {run}: {why}" for run, why in diary.stuck]
    logs = {run: await persist(lambda run=run: world.log.read(run)) for run in diary.runs}  # type: ignore[misc]
    for run, facts in logs.items():
        _check_log(run, facts, verdict, excused=run in diary.excused)
    await _check_effects(stack, diary, verdict)
    async with _index(stack) as index:
        for run, facts in logs.items():
            await _check_index(run, facts, index, verdict)
    await _check_queues(world, verdict)
    return verdict


def _check_log(run: RunId, facts: list[Stored], verdict: Verdict, *, excused: bool) -> None:
    verdict.facts += len(facts)
    bodies = [stored.fact.body for stored in facts]
    wrong = []
    ends = [body for body in bodies if isinstance(body, TERMINAL)]
    if len(ends) != 1 or not isinstance(ends[0], RunCompleted):
        wrong.append(f"its ends are {[type(end).__name__ for end in ends]}")
    failures = [body for body in bodies if isinstance(body, ToolFailed | ToolInDoubt | StepFailed) and not excused]
    wrong += [f"{type(body).__name__}: {body.failure.what} {body.failure.why}" for body in failures]
    replayed = replay(run, facts)
    if not replayed.same or replayed.outcome != "completed":
        wrong.append(f"its replay is {replayed.outcome}, {replayed.divergence}")
    else:
        verdict.replayed += 1
    if wrong:
        verdict.violations.append(f"run {run}: {'; '.join(wrong)}\n{timeline(facts)}")


async def _check_effects(stack: LocalStack, diary: Diary, verdict: Verdict) -> None:
    happened: dict[str, list[Effect]] = {}
    for effect in await stack.effects():
        verdict.effects += 1
        happened.setdefault(str(effect["resource"]), []).append(_told_apart(effect))
    for instance in sorted(happened.keys() | diary.effects.keys()):
        wanted, got = diary.effects.get(instance, []), happened.get(instance, [])
        if wanted != got:
            place = next((i for i, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b), min(len(wanted), len(got)))
            verdict.violations.append(
                f"{instance}: {len(wanted)} effects wanted, {len(got)} happened; they part at {place}: "
                f"wanted {wanted[place : place + 3]}, happened {got[place : place + 3]}"
            )


def _told_apart(effect: dict[str, object]) -> Effect:
    params = effect["params"]
    assert isinstance(params, dict)
    if effect["action"] == "RenewInstance":
        return "RenewInstance", f"{params['Period']} {params['PeriodUnit']}"
    return str(effect["action"]), str(params.get("Description"))


async def _check_index(run: RunId, facts: list[Stored], index: PostgresRunIndex, verdict: Verdict) -> None:
    try:
        async with asyncio.timeout(INDEX_LIMIT_S):
            while (record := await persist(lambda: index.show(run))) is None or len(record.events) < len(facts):
                await asyncio.sleep(0.1)
    except TimeoutError:
        verdict.violations.append(f"run {run} is not in the index: {_indexed(await index.show(run), facts)}")
        return
    last = next(stored.position for stored in reversed(facts) if not isinstance(stored.fact.body, RunSealed))
    if record.summary.status != "completed" or record.summary.seq != last:
        verdict.violations.append(f"run {run} is {record.summary.status} in the index at {record.summary.seq}")
    else:
        verdict.indexed += 1


def _indexed(record: RunRecord | None, facts: list[Stored]) -> str:
    if record is None:
        return "nothing of it"
    known = {event.id for event in record.events}
    return f"without {[(each.position, type(each.fact.body).__name__) for each in facts if each.fact.id not in known]}"


@asynccontextmanager
async def _index(stack: LocalStack) -> AsyncIterator[PostgresRunIndex]:
    connected = engine.connect(stack.now.postgres_url)
    try:
        yield PostgresRunIndex(connected)
    finally:
        await connected.dispose()


async def _check_queues(world: World, verdict: Verdict) -> None:
    """No command waits for a run that has ended, and nothing was unreadable."""
    js = world.connection.client.jetstream()
    give_up = asyncio.get_running_loop().time() + QUIET_LIMIT_S
    while left := (await js.stream_info(subjects.COMMAND_STREAM)).state.messages:
        if asyncio.get_running_loop().time() > give_up:
            verdict.violations.append(f"{left} commands still wait although every run has ended")
            break
        await asyncio.sleep(0.2)
    verdict.commands_left = left
    verdict.buried = (await js.stream_info(subjects.DEAD_STREAM)).state.messages
    if verdict.buried:
        verdict.violations.append(f"{verdict.buried} messages were buried as unreadable")
