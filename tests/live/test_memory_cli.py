"""`milepost memory` as a person uses it, on the session's stack."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from schemas.agent import AgentSpec
from tests.support.stack import LocalStack, see_through

ROOT = Path(__file__).parents[2]
TALKER = AgentSpec(name="talker", tool_k=0, knowledge_k=0)


def memory(stack: LocalStack, *arguments: str, code: int = 0) -> str:
    """What `milepost memory ARGUMENTS` says; its exit code must be `code`."""
    command = [sys.executable, "-m", "infra", "memory", *arguments, "--home", str(stack.home)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert ended.returncode == code, f"exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout + ended.stderr


def as_json(stack: LocalStack, *arguments: str) -> Any:
    return json.loads(memory(stack, *arguments, "--json"))


def test_a_fact_is_kept_shown_changed_and_forgotten(scripted_stack: LocalStack) -> None:
    user = f"u-{secrets.token_hex(4)}"
    memory(scripted_stack, "remember", "city", "lives in Ulm", "--user", user)
    assert "lives in Hangzhou" in memory(scripted_stack, "remember", "city", "lives in Hangzhou", "--user", user)
    (fact,) = as_json(scripted_stack, "show", "--user", user)["facts"]
    assert (fact["key"], fact["text"]) == ("city", "lives in Hangzhou")
    memory(scripted_stack, "forget-fact", "city", "--user", user)
    assert "next: milepost memory show" in memory(scripted_stack, "forget-fact", "city", "--user", user, code=1)
    assert "no fact is known" in memory(scripted_stack, "show", "--user", user)
    assert "is empty" in memory(scripted_stack, "remember", " ", "x", "--user", user, code=1)


async def test_a_conversation_is_listed_shown_and_searched(scripted_stack: LocalStack) -> None:
    talk, user, word = f"c-{secrets.token_hex(4)}", f"u-{secrets.token_hex(4)}", secrets.token_hex(6)
    async with scripted_stack.session(user) as (client, _):
        for task in (f"the parcel {word} is late", "早", "and you"):
            await see_through(client, (await client.ask(task, agent=TALKER, conversation=talk)).run)
    (listed,) = as_json(scripted_stack, "ls", "--user", user)
    assert (listed["conversation"], listed["turns"], listed["task"]) == (talk, 3, "and you")
    shown = memory(scripted_stack, "show", "--conversation", talk, "--limit", "2")
    assert "早" in shown and word not in shown and "--before" in shown
    assert as_json(scripted_stack, "search", f"parcel {word}", "--user", user)[0]["turn"]["task"].endswith("is late")
    assert "nothing found" in memory(scripted_stack, "search", "zebra", "--conversation", talk)
    assert "There is no conversation" in memory(scripted_stack, "show", "--conversation", "c-none", code=1)
    assert "two questions" in memory(scripted_stack, "show", "--conversation", talk, "--user", user, code=1)
