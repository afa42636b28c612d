"""Agents that ask agents, on a real stack: approvals from below, stopping, a host that dies, rows too deep, and replay."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import milepost
from infra.wiring import World
from milepost import Agent, AgentSpec, Approval, Budget, MilepostError, Stack
from runtime.children import all_children, children_of, is_child
from runtime.client import Client
from runtime.fold import fold
from runtime.replay import replay
from runtime.state import RunState
from schemas.events import MemoryRecalled, ToolReturned
from schemas.ids import RunId
from tests.support.script import RULES
from tests.support.stack import LocalStack, open_folder, reached, see_through
from tests.support.terminal import Terminal
from tool_adapters.agent import AgentTool

ROOT = Path(milepost.__file__).parent
WEB = "i-bp1f8k2m9x4q7web01"
DATABASE = "i-bp1h5t9r4y7u1dbm01"
NAMES = ("chief", "ops", "third", "fourth", "talker", "broken", "mirror", "top", "upper", "lower", "lowest", "slow")
TIME: dict[str, object] = {"name": "current_time", "arguments": {"timezone": "Asia/Shanghai"}}
MADE_UP: dict[str, object] = {"name": "ops", "arguments": {"task": "renew i-bp1c3n6v8z2w5api01 for 1 month"}}
OWN: list[dict[str, object]] = [
    {"role": "user", "match": "^make one up", "call": [MADE_UP]},
    {"role": "user", "match": "^in circles", "call": [TIME]},
    {"role": "tool", "asked": "^in circles", "call": [TIME]},
]


def asks(name: str) -> dict[str, object]:
    """The rule of "NAME: TASK": give the task to the agent of that name."""
    return {"role": "user", "match": f"^{name}: (?P<task>.+)", "call": [{"name": name, "arguments": {"task": "{task}"}}]}


@pytest.fixture(scope="module")
def local() -> Iterator[LocalStack]:
    with open_folder() as folder:
        local = asyncio.run(LocalStack.start(folder, [*OWN, *map(asks, NAMES), *RULES]))
        for name, tools in (("ops", ["RenewInstance", "current_time"]), ("chief", ["ops"])):
            file = folder / f"{name}.json"
            file.write_text(json.dumps({"name": name, "tools": tools, "tool_k": 0, "knowledge_k": 0}))
            milepost_("tools", "import", "agent", str(file), "--description", f"Ask {name}.", local=local)
        yield local
        asyncio.run(local.down())


@pytest.fixture(scope="module")
def stack(local: LocalStack) -> Iterator[Stack]:
    link = Stack(home=local.home, start=False)
    yield link
    link.close()


def milepost_(*words: str, local: LocalStack, code: int = 0) -> str:
    done = subprocess.run(
        command(*words, local=local), capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=local.home, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def command(*words: str, local: LocalStack) -> list[str]:
    return [sys.executable, "-m", "infra", *words, "--home", str(local.home)]


def agent(name: str, stack: Stack, *tools: str | Agent | AgentTool, budget: Budget | None = None) -> Agent:
    said = f"Ask {name}."
    return Agent(name, tools=tools, tool_k=0, knowledge_k=0, budget=budget, stack=stack, description=said)


LEAD = AgentSpec(name="lead", tools=("chief", "ops"), tool_k=0, knowledge_k=0, budget=Budget(deadline_s=3000))


async def below(world: World, run: RunId) -> list[RunState]:
    """The runs below, as their logs tell."""
    facts = await world.log.read(run)
    return [fold(child, await world.log.read(child)).state for child in all_children(fold(run, facts).state, facts)]


# --- in Python ------------------------------------------------------------------------------------------


def test_two_levels_below_a_write_is_approved_where_the_first_was_asked_and_happens_once(
    stack: Stack, local: LocalStack
) -> None:
    third = agent("third", stack, "RenewInstance")
    lead = agent("lead", stack, agent("fourth", stack, third))
    seen: list[Approval] = []
    result = lead.run(f"fourth: third: renew {WEB} for 3 month", approve=lambda asked: not seen.append(asked))

    assert [(each.agent, each.tool, each.ungrounded) for each in seen] == [("third", "RenewInstance", ())]
    assert result.text.startswith("Done: Done: Done:")
    assert len(asyncio.run(local.effects(WEB))) == 1
    facts = stack.call(stack.world.log.read(result.run))
    (middle,) = stack.call(below(stack.world, result.run))
    (deepest,) = stack.call(below(stack.world, middle.run))
    assert deepest.request and deepest.request.parent and middle.request
    said = deepest.request.parent
    assert (said.run, said.root, said.depth, said.vouched) == (middle.run, result.run, 2, True)
    assert is_child(middle.request.conversation) and deepest.request.user == stack.settings.user
    assert fold(result.run, facts).state.calls == 1
    assert replay(result.run, facts).same, "a replay needs no child"


def test_the_second_question_goes_on_with_the_childs_conversation(stack: Stack) -> None:
    lead = agent("lead", stack, agent("talker", stack))
    runs = [lead.run("talker: hello").run, lead.run("talker: hello again").run]
    children = [state for run in runs for state in stack.call(below(stack.world, run))]
    recalled = [
        stored.fact.body for state in children for stored in stack.call(stack.world.log.read(state.run))
        if isinstance(stored.fact.body, MemoryRecalled)
    ]  # fmt: skip
    assert [[turn.task for turn in each.history] for each in recalled] == [[], ["hello"]]
    lead.reset()
    (other,) = stack.call(below(stack.world, lead.run("talker: hello").run))
    assert other.history == ()


def test_an_agent_that_fails_says_why_and_the_one_that_asked_goes_on(stack: Stack) -> None:
    lead = agent("lead", stack, agent("broken", stack, "current_time", budget=Budget(steps=1)))
    text = lead.run("broken: in circles").text
    assert "broken ended without an answer (failed)" in text


def test_nobody_asks_an_agent_that_waits_for_the_answer(stack: Stack) -> None:
    inner = agent("lead", stack).as_tool(name="mirror")
    text = agent("lead", stack, inner).run("mirror: hello").text
    assert "lead is not asked: it waits for this answer itself" in text


def test_agents_call_one_another_three_deep_at_most(stack: Stack) -> None:
    row = agent("lowest", stack)
    for name in ("lower", "upper", "top"):
        row = agent(name, stack, row)
    lead = agent("lead", stack, row)
    assert "lowest is not asked: agents call one another 3 deep at most" in lead.run("top: upper: lower: lowest: hi").text
    assert row.run("upper: lower: lowest: hi").text == "Done: Done: Done: You said: hi", "from the second on it is not too deep"


def test_an_agent_without_a_description_is_no_tool(stack: Stack) -> None:
    mute = Agent("mute", tool_k=0, knowledge_k=0, stack=stack)
    with pytest.raises(MilepostError, match="has no description"):
        Agent("lead", tools=[mute], stack=stack)


def test_a_host_stops_what_nobody_waits_for(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if whoever cancels does not know of the runs below."""
    monkeypatch.setattr("runtime.client.children_of", lambda state: {})
    lead = agent("lead", stack, agent("slow", stack, "RenewInstance"))
    failed: list[MilepostError] = []
    asked, gone = threading.Event(), threading.Event()
    seen: list[Approval] = []

    def ask() -> None:
        try:
            for item in lead.stream_run(f"slow: renew {DATABASE} for 2 month"):
                if isinstance(item, Approval):
                    seen.append(item)
                    asked.set()
        except MilepostError as error:
            failed.append(error)
        gone.set()

    threading.Thread(target=ask, daemon=True).start()
    assert asked.wait(30)
    child = seen[0].run
    request = stack.call(stack.client().state(child)).request
    assert request and request.parent
    stack.call(stack.client().cancel(RunId(request.parent.run)))
    last = stack.call(reached(stack.client(), child, lambda update: update.state.phase == "ended"))
    assert last.state.outcome == "cancelled"
    assert gone.wait(30) and "cancelled" in str(failed[0])


# --- hosted by the stack ----------------------------------------------------------------------------------


async def asked(client: Client, task: str) -> tuple[RunId, RunId]:
    """A run whose agent has asked another one, and that one's, which waits for an approval."""
    run = (await client.ask(task, agent=LEAD)).run
    update = await reached(client, run, lambda update: bool(children_of(update.state)))
    (child,) = children_of(update.state).values()
    await reached(client, child, lambda update: bool(update.state.approvals()))
    return run, child


async def test_a_host_that_is_killed_follows_the_same_child_when_it_is_back(local: LocalStack) -> None:
    async with local.session() as (client, world):
        run, child = await asked(client, f"ops: renew {DATABASE} for 1 month")
        await local.kill("tools")
        (approval,) = (await client.state(child)).approvals()
        await client.approve(child, approval)
        last = await see_through(client, run)
        assert (last.state.answer or "").startswith("Done: Done:")
        events = [stored.fact.body for stored in await world.log.read(run)]
        assert [event.command.call.name for event in events if isinstance(event, ToolReturned)] == ["ops"]
        assert [state.run for state in await below(world, run)] == [child]
    assert len(await local.effects(DATABASE)) == 1


async def test_cancelling_a_run_cancels_those_below_while_no_host_lives(local: LocalStack) -> None:
    async with local.session() as (client, _):
        run, child = await asked(client, f"ops: renew {DATABASE} for 3 month")
        before = local.member("tools")
        killing = asyncio.create_task(local.kill("tools"))
        await client.cancel(run)
        last = await reached(client, child, lambda update: update.state.phase == "ended")
        assert last.state.outcome == "cancelled"
        assert (await see_through(client, run)).state.outcome == "cancelled"
        await killing
        assert local.member("tools").pid != before.pid


async def test_what_a_model_made_up_is_named_by_nobody_in_the_child(local: LocalStack) -> None:
    """The person names no instance: the task that the first agent writes does not vouch for the one it chose."""
    spec = LEAD.model_copy(update={"name": "maker", "tools": ("ops",)})
    async with local.session() as (client, _):
        run = (await client.ask("make one up", agent=spec)).run
        update = await reached(client, run, lambda update: bool(children_of(update.state)))
        (child,) = children_of(update.state).values()
        waiting = await reached(client, child, lambda update: bool(update.state.approvals()))
        (asked_for,) = waiting.state.approvals().values()
        assert "InstanceId" in asked_for.ungrounded
        await client.cancel(run)


def test_a_person_at_the_terminal_approves_what_is_asked_two_levels_below(local: LocalStack, tmp_path: Path) -> None:
    file = tmp_path / "lead.json"
    file.write_text(LEAD.model_dump_json())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ("ask", f"chief: ops: renew {WEB} for 2 week", "--agent", str(file))
    with Terminal(command(*words, local=local), environment=environment, folder=tmp_path) as terminal:
        terminal.wait_for("ops")
        terminal.wait_for("RenewInstance")
        terminal.wait_for("Approve? [y")
        terminal.type("y\n")
        code, rest = terminal.end()
    assert (code, "Done: Done: Done:" in rest) == (0, True), rest


def test_a_run_that_waits_below_is_left_and_found_again(local: LocalStack, tmp_path: Path) -> None:
    file = tmp_path / "lead.json"
    file.write_text(LEAD.model_dump_json())
    said = json.loads(milepost_("ask", f"ops: renew {WEB} for 3 week", "--agent", str(file), "--json", local=local, code=3))
    (child,) = said["children"]
    assert (said["outcome"], child["agent"], child["approvals"][0]["tool"]) == ("waiting", "ops", "RenewInstance")
    tree = milepost_("runs", "show", said["run"], local=local)
    assert f"└─ {child['run'][:15]}" in tree and "waiting" in tree
    assert said["run"] in milepost_("runs", "show", child["run"], local=local)
    wait_for(lambda: child["run"] in milepost_("approvals", "ls", "--json", local=local))
    milepost_("approvals", "approve", child["run"], local=local)
    assert "RunCompleted" in milepost_("runs", "follow", said["run"], local=local)
    lines = milepost_("runs", "ls", local=local).splitlines()
    assert [("↳" in line) for line in lines if child["run"] in line] == [True]
    assert [("↳" in line) for line in lines if said["run"] in line] == [False]


def wait_for(holds: Callable[[], bool]) -> None:
    """The index follows the log."""
    for _ in range(20):
        if holds():
            return
    raise AssertionError("it never held")
