"""A renewal is forked at its approval, refused there and approved there: the cloud hears of neither."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from infra.wiring import World
from runtime.client import Client
from runtime.forking import Change, Original
from runtime.log import Stored
from runtime.replay import replay
from schemas.commands import CallTool
from schemas.events import AnswerCopied, ApprovalGranted, CallPlanned, Generated, ToolReturned
from tests.support.stack import OPERATOR, LocalStack, see_through

DB = "i-bp1f8k2m9x4q7web01"
ROOT = Path(__file__).parents[2]


async def renewed(client: Client, world: World) -> Original:
    """A renewal that was approved and done."""
    asked = await client.ask(f"renew {DB} for 1 month", agent=OPERATOR)
    ended = await see_through(client, asked.run)
    assert ended.state.outcome == "completed"
    return Original(asked.run, await world.log.read_both(asked.run))


def place(original: Original, kind: type[object]) -> int:
    """The number of the last event of a kind."""
    return next(told.number for told in reversed(original.told) if isinstance(told.body, kind))


def approval(original: Original) -> int:
    """The event after which a person was asked: plan and verdict were both there."""
    return next(
        told.number for told in original.told for each in told.decided if each.command.kind == "RequestApproval"
    )  # fmt: skip


async def test_a_renewal_forked_at_its_approval_leaves_the_cloud_as_it_is(scripted_stack: LocalStack) -> None:
    async with scripted_stack.session(user="ada") as (client, world):
        original = await renewed(client, world)
        done = await scripted_stack.effects()
        assert done[-1]["resource"] == DB

        refused = await client.fork(original, approval(original), by="bob")
        ended = await see_through(client, refused.run, lambda run, id: client.refuse(run, id, reason="too dear"))
        assert ended.state.outcome == "completed"
        assert "refused this call: too dear" in (ended.state.answer or "")

        approved = await client.fork(original, approval(original))
        ended = await see_through(client, approved.run)
        assert ended.state.answer == original.state.answer, "the call is answered from the log"
        facts = await world.log.read(approved.run)
        (returned,) = [stored.fact.body for stored in facts if isinstance(stored.fact.body, ToolReturned)]
        assert returned.command.host == "recorded" and returned.command.write_key

        assert await scripted_stack.effects() == done, "nothing happens in the world, whatever a person says"
        for run in (original.run, refused.run, approved.run):
            assert replay(run, await world.log.read(run)).same
        again = Original(approved.run, await world.log.read_both(approved.run))
        fork = again.request.fork
        assert fork and (fork.run, fork.at, fork.root) == (original.run, approval(original), original.root(fork.at))
        said = (await client.state(refused.run)).fork
        assert said and (fork.by, said.by) == ("ada", "bob")
        await fork_of_a_fork(client, again, done, scripted_stack)


async def fork_of_a_fork(client: Client, fork: Original, done: object, stack: LocalStack) -> None:
    """The answers of the first run are copied once more, and what a person said in the fork."""
    asked = await client.fork(fork, place(fork, ApprovalGranted))
    ended = await see_through(client, asked.run)
    assert ended.state.answer == fork.state.answer
    copied = [stored.fact.body for stored in await client.log.read(asked.run) if isinstance(stored.fact.body, AnswerCopied)]
    assert {each.run for each in copied} == {fork.request.fork.run, fork.run}  # type: ignore[union-attr]
    assert await stack.effects() == done


async def test_other_instructions_are_what_the_model_reads_from_there_on(scripted_stack: LocalStack) -> None:
    async with scripted_stack.session() as (client, world):
        original = await renewed(client, world)
        before = await scripted_stack.effects()
        agent = original.request.agent.model_copy(update={"instructions": "Never spend much money."})
        asked = next(told.number for told in original.told for each in told.decided if each.command.kind == "Generate")
        fork = await client.fork(original, asked, Change(agent=agent, words=("instructions",)))
        ended = await see_through(client, fork.run, client.refuse)
        facts = await world.log.read(fork.run)
        said, there = spoken(facts), spoken(await world.log.read(original.run))
        assert said[0].usage.prompt_tokens == there[0].usage.prompt_tokens + 4, "four words more"
        assert said[0].calls == there[0].calls
        (plan,) = [stored.fact.body for stored in facts if isinstance(stored.fact.body, CallPlanned)]
        assert plan.command.host == "recorded", "the plan of an equal call is in the log"
        assert "refused this call" in (ended.state.answer or "")
        assert replay(fork.run, facts).same
        assert await scripted_stack.effects() == before


def spoken(facts: list[Stored]) -> list[object]:
    return [stored.fact.body.generation for stored in facts if isinstance(stored.fact.body, Generated)]


async def test_what_the_log_lacks_is_read_and_never_written(scripted_stack: LocalStack) -> None:
    """The model asks for another renewal than the run did: it is planned on the real cloud, and goes no further."""
    async with scripted_stack.session() as (client, world):
        original = await renewed(client, world)
        before = await scripted_stack.effects()
        told = place(original, Generated) - 1  # the result, after which the model speaks
        first = next(each.number for each in original.told if isinstance(each.body, Generated))
        calls = [{"id": "x-1", "name": "RenewInstance", "arguments": {"InstanceId": DB, "Period": 3, "PeriodUnit": "Month"}}]
        change = {first: {"generation": {"text": "", "calls": calls}}}
        assert told > first
        answers: dict[str, str] = {}
        for reads, writes in (("recorded", "dry_run"), ("live", "dry_run"), ("live", "simulated")):
            fork = await client.fork(original, first, Change(answers=change, reads=reads, writes=writes))  # type: ignore[arg-type]
            ended = await see_through(client, fork.run)
            answers[f"{reads} {writes}"] = ended.state.answer or ""
            sent = [each for each in called(await world.log.read(fork.run)) if each.write_key]
            assert {each.host for each in sent} <= {"recorded"}
            assert replay(fork.run, await world.log.read(fork.run)).same
        assert "This was not done" in answers["recorded dry_run"] and "would do" not in answers["recorded dry_run"]
        assert "It would do this: Renew" in answers["live dry_run"]
        assert "simulated in a fork" in answers["live simulated"]
        assert await scripted_stack.effects() == before


def called(facts: list[Stored]) -> list[CallTool]:
    commands = [getattr(stored.fact.body, "command", None) for stored in facts]
    return [each for each in commands if isinstance(each, CallTool)]


async def test_the_command_forks_and_says_where_to_look(scripted_stack: LocalStack) -> None:
    async with scripted_stack.session() as (client, world):
        original = await renewed(client, world)
        before = await scripted_stack.effects()
    given = place(original, ApprovalGranted)
    printed, code = await milepost(scripted_stack, "fork", original.run, "--answer", f"{given}=refuse:not now", "--json")
    result = json.loads(printed)
    assert code == 0 and result["fork"]["run"] == original.run and result["fork"]["at"] == given
    assert "refused this call: not now" in result["answer"]
    printed, code = await milepost(scripted_stack, "fork", original.run, "--at", str(approval(original)), "--yes")
    assert code == 0 and "FORK: nothing will happen in the world" in printed
    assert f"milepost diff {original.run} " in printed
    printed, code = await milepost(scripted_stack, "fork", original.run, "--at", "99")
    assert code == 1 and "has no event 99" in printed
    assert await scripted_stack.effects() == before


async def milepost(stack: LocalStack, *arguments: str) -> tuple[str, int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra", *arguments, "--home", str(stack.home), cwd=ROOT,
        env={**os.environ, "LC_ALL": "C.UTF-8", "COLUMNS": "200"}, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    return printed.decode(), process.returncode or 0
