"""Other people's programs beside a stack: commands of the documentation, and processes that run until the test ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from infra.local_stack import attached
from runtime.client import Client
from schemas.agent import AgentSpec
from schemas.events import ToolReturned
from schemas.tools import ToolCard
from tests.support.stack import Decide, LocalStack, see_through, timeline

ROOT = Path(__file__).parents[2]
STARTS_S = 30.0


def block(page: str, heading: str, language: str) -> str:
    """The first block of a language under a heading of a page of docs/."""
    text = (ROOT / "docs" / page).read_text()
    section = text[text.index(f"## {heading}") :]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, f"{page} has no {language} under {heading}"
    return found[1]


def environment(stack: LocalStack, bin_folder: Path) -> dict[str, str]:
    """What a person has who works beside this stack: `milepost` and `nats` on the path, and NATS_URL.

    `nats` is the real command where it is installed, tests/node/nats.mjs elsewhere.
    """
    bin_folder.mkdir(parents=True, exist_ok=True)
    _script(bin_folder / "milepost", f'exec "{sys.executable}" -m infra "$@"')
    if shutil.which("nats") is None:
        _script(bin_folder / "nats", f'exec node "{ROOT / "tests/node/nats.mjs"}" "$@"')
    settings = attached(stack.loaded.settings)
    assert settings.nats.url
    return {
        **os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "NATS_URL": settings.nats.url,
        "MILEPOST_HOME": str(settings.home),
    }  # fmt: skip


async def run(*command: str, env: Mapping[str, str], cwd: Path, limit_s: float = 60.0) -> str:
    """Run a command to its end; what it printed. It must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, env=env, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(limit_s):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    said = out.decode(errors="replace")
    assert process.returncode == 0, f"{command}: {said}"
    return said


@asynccontextmanager
async def running(
    *command: str, env: Mapping[str, str], cwd: Path, until: str
) -> AsyncIterator[asyncio.subprocess.Process]:  # fmt: skip
    """A program that runs for the time of the block; entered once it has printed `until`."""
    process = await asyncio.create_subprocess_exec(
        *command, env=env, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True
    )
    try:
        await _printed(process, until)
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
        await process.communicate()


async def _printed(process: asyncio.subprocess.Process, until: str) -> None:
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(STARTS_S):
        while until not in said:
            line = (await process.stdout.readline()).decode(errors="replace")
            assert line, f"it ended without {until!r}: {said}"
            said += line


async def known(client: Client, name: str, presence: str, limit_s: float = 30.0) -> ToolCard:
    """Wait until the catalogue has the tool, here or away."""
    question = json.dumps({"tenant": client.tenant, "names": [name]}).encode()
    async with asyncio.timeout(limit_s):
        while True:
            told = json.loads(await client.bus.ask("mp.svc.retrieval.get_tools", question, 10.0))
            if told and told[0]["presence"] == presence:
                return ToolCard.model_validate(told[0]["card"])
            await asyncio.sleep(0.05)


async def answers(client: Client, text: str, *tools: str, k: int = 0, decide: Decide | None = None) -> list[str]:
    """What the tools answered in a run."""
    spec = AgentSpec(name="helper", tools=tools, tool_k=k, knowledge_k=0)
    update = await see_through(client, (await client.ask(text, agent=spec)).run, decide)
    facts = await client.log.read(update.state.run)
    assert update.state.outcome == "completed", timeline(facts)
    return [each.fact.body.result.text for each in facts if isinstance(each.fact.body, ToolReturned)]


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
