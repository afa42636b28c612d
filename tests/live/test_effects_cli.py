"""`milepost effects` as a person uses it: what was changed, what is in doubt, and taking something back."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.wiring import World, open_toolbox
from runtime.client import Client
from schemas import subjects
from schemas.agent import AgentSpec
from schemas.canonical import canonical
from schemas.events import EffectSettled
from schemas.ids import RunId
from services.llm.caller import NAME, task_of
from tests.support.simulation import working
from tests.support.stack import LocalStack, see_through
from tool_adapters.python import tool
from tool_adapters.tool import OutcomeUnknown, Tool

ROOT = Path(__file__).parents[2]


async def effects(stack: LocalStack, *arguments: str, code: int = 0) -> str:
    """What `milepost effects ARGUMENTS` says; its exit code must be `code`."""
    command = [sys.executable, "-m", "infra", "effects", *arguments, "--home", str(stack.home)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=90, cwd=ROOT, check=False)
    assert ended.returncode == code, f"exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return " ".join(f"{ended.stdout} {ended.stderr}".split())


async def as_json(stack: LocalStack, *arguments: str) -> Any:
    return json.loads(await effects(stack, *arguments, "--json"))


def door(name: str, journal: list[str]) -> list[Tool]:
    """A door that opens and closes, and a letter box that never says whether a letter arrived."""

    @tool(name=f"open_{name}", effect="write", undo=f"close_{name}")
    def open_(number: int) -> str:
        """Open a door."""
        journal.append(f"open {number}")
        return f"door {number} is open"

    @tool(name=f"close_{name}", effect="write")
    def close(number: int) -> str:
        """Close a door."""
        journal.append(f"close {number}")
        return f"door {number} is closed"

    @tool(name=f"drop_{name}", effect="write")
    def drop(number: int) -> str:
        """Drop a letter."""
        raise OutcomeUnknown("It fell without a sound.")

    return [open_, close, drop]


async def done(client: Client, name: str, **arguments: object) -> RunId:
    """A run of one approved call."""
    agent = AgentSpec(name="one", model=NAME, model_host=NAME, tools=(name,), tool_k=0, knowledge_k=0)
    run = (await client.ask(task_of(name, arguments), agent=agent)).run
    await see_through(client, run)
    return run


async def known(world: World, tenant: str, names: list[str]) -> None:
    question = canonical({"tenant": tenant, "names": names})
    async with asyncio.timeout(20):
        while len(json.loads(await world.bus.ask(subjects.question("retrieval", "get_tools"), question, 10))) < len(names):
            await asyncio.sleep(0.05)


async def test_effects_are_seen_settled_and_taken_back(scripted_stack: LocalStack) -> None:
    stack, name, journal = scripted_stack, secrets.token_hex(4), list[str]()
    async with stack.session() as (client, world):
        box = open_toolbox(world, door(name, journal), f"doors-{name}", tenant=client.tenant)
        async with working(world.worker(box.service())):
            await box.register(world.bus)
            await known(world, client.tenant, [card.name for card in box.cards()])
            opened = await done(client, f"open_{name}", number=7)
            (entry,) = await as_json(stack, "ls", "--tool", f"open_{name}")
            assert (entry["state"], entry["run"], entry["arguments"], entry["user"]) == ("done", opened, {"number": 7}, "me")
            shown = await effects(stack, "show", entry["key"][:10])
            assert all(word in shown for word in (f"open_{name} done", "planned", "approved by me", "door 7 is open"))
            (planned,) = await as_json(stack, "ls", "--run", opened)
            assert (planned["key"], planned["state"]) == (entry["key"], "done")

            await effects(stack, "undo", entry["key"], "--yes")
            assert journal == ["open 7", "close 7"]
            assert "taken back by run" in await effects(stack, "show", entry["key"])
            assert "--again" in await effects(stack, "undo", entry["key"], code=1)

            dropped = await done(client, f"drop_{name}", number=1)
        (doubt,) = [each for each in await as_json(stack, "ls", "--in-doubt") if each["tool"] == f"drop_{name}"]
        assert "effects settle" in await effects(stack, "show", doubt["key"])
        assert "names no tool" in await effects(
            stack, "undo", (await as_json(stack, "ls", "--tool", f"close_{name}"))[0]["key"], code=1
        )
        assert "has not happened" in await effects(stack, "undo", doubt["key"], code=1)
        assert "Nobody hosts" in await effects(stack, "reconcile", doubt["key"], code=1)
        assert "What did you find?" in await effects(stack, "settle", doubt["key"], code=1)
        said = await effects(stack, "settle", doubt["key"][:9], "--not-happened", "--note", "the box is empty")
        assert "did not happen" in said
        assert "It is known already" in await effects(stack, "settle", doubt["key"], "--happened", code=1)
        shown = await effects(stack, "show", doubt["key"])
        assert "reconciled: did not happen" in shown and "found out by me: the box is empty" in shown
        (settled,) = [
            stored.fact.body for stored in await client.log.read(dropped) if isinstance(stored.fact.body, EffectSettled)
        ]
        assert (settled.happened, settled.by, settled.note) == (False, "me", "the box is empty")
        assert "There is no effect" in await effects(stack, "show", "0" * 32, code=1)
