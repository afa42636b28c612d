"""Prompts of a run and of a conversation share their beginnings token for token: real tokenizer, real chat template."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import pytest

from infra.models.build import build
from infra.models.catalogue import DEFAULT_TEXT_MODEL
from infra.models.fetch import ModelUnavailable, ensure
from infra.settings import load
from runtime import prompt
from schemas.agent import AgentSpec
from schemas.commands import CallTool
from schemas.events import Turn
from schemas.messages import Message, Prompt
from schemas.tools import ToolCard
from services.llm.about import TOKENIZER
from services.llm.build import read_manifest
from services.llm.chat import encode
from services.llm.tokenizer import Vocabulary
from services.llm.wire import WIRES
from tests.support.builders import RunUnderTest, call, passage, spec
from tests.support.history import TOLD

Encode = Callable[[Prompt], list[int]]
CARDS = tuple(
    ToolCard(name=name, description=f"{name} an instance 实例", parameters={"type": "object", "properties": {"n": {}}})
    for name in ("renew", "describe", "restart", "stop")
)
EXAMPLES = (Message(role="user", content="几点了？"), Message(role="assistant", content="中午十二点。"))
# Tokens at the end of a prompt that belong to the model's own message, or may join with what follows.
JOINT = 3
TASKS = ("Renew i-1, please.", "那么 i-2 呢？", "Thanks!\n")


@pytest.fixture(scope="module")
def encoded() -> Encode:
    home = load().settings.model.home
    try:
        asyncio.run(ensure(DEFAULT_TEXT_MODEL, home=home))
    except ModelUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    folder = asyncio.run(build(DEFAULT_TEXT_MODEL, home))
    manifest, vocabulary = read_manifest(folder), Vocabulary.load(folder / TOKENIZER)

    def tokens_of(each: Prompt) -> list[int]:
        wire = WIRES[manifest.wire if each.manner.wire == "model" else each.manner.wire]
        return encode(each, manifest.chat, wire, vocabulary)

    return tokens_of


def run_of(agent: AgentSpec, number: int, history: tuple[Turn, ...]) -> RunUnderTest:
    """The run of a task, in which two tools were found for it alone."""
    run = RunUnderTest(agent, key=f"turn {number}")
    run.request = run.request.model_copy(update={"task": TASKS[number]})
    run.begin()
    found = (CARDS[0], CARDS[1 + number], CARDS[1 + (number + 1) % 3])
    run.gather(*found, told=TOLD.model_copy(update={"history": history}), passages=(passage(f"第 {number} 段。"),))
    return run


@pytest.mark.parametrize("generator", ["messages", "ms", "mrkl"])
@pytest.mark.parametrize("found", ["system", "request"])
def test_each_prompt_of_a_run_extends_the_one_before(
    encoded: Encode, generator: str, found: Literal["system", "request"]
) -> None:
    run = run_of(
        spec(prompt=generator, tools=("renew",), found_tools=found, examples=EXAMPLES, approval="never"), 1, TOLD.history
    )
    prompts = [encoded(prompt.build(run.state))]
    for number in range(3):
        run.say(call("renew", f"c{number}", n=f"第 {number} 个"), text="" if number else "I renew it.")
        run.returns(run.one(CallTool), f"done\n\n{number} 好")
        prompts.append(encoded(prompt.build(run.state)))
    for shorter, longer in pairwise(prompts):
        assert longer[: len(shorter) - JOINT] == shorter[:-JOINT]
        assert len(longer) > len(shorter)


@pytest.mark.parametrize("generator", ["messages", "ms", "mrkl"])
def test_each_prompt_of_a_conversation_begins_with_what_stays(encoded: Encode, generator: str) -> None:
    """With the tools found before the request, all that was said is shared; else what stands before those tools."""
    same = {
        found: shared(encoded, spec(prompt=generator, tools=("renew",), found_tools=found)) for found in ("request", "system")
    }
    assert all(count >= stays - JOINT for count, stays in same["request"])
    assert all(0 < count < stays for count, stays in same["system"])


def shared(encoded: Encode, agent: AgentSpec) -> list[tuple[int, int]]:
    """Of each two turns that follow each other: how many tokens are shared, and how many the first has before its request."""
    history = TOLD.history
    prompts: list[Prompt] = []
    for number, task in enumerate(TASKS):
        run = run_of(agent.model_copy(update={"examples": EXAMPLES}), number, history)
        prompts.append(prompt.build(run.state))
        history = (*history, Turn(run=run.id, task=task, answer="好的。"))
    return [(common(encoded(one), encoded(other)), len(encoded(before_request(one)))) for one, other in pairwise(prompts)]


def common(one: list[int], other: list[int]) -> int:
    return next(index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])


def before_request(built: Prompt) -> Prompt:
    """The prompt without the request and what was found for it."""
    request = next(index for index, message in enumerate(built.messages) if message.part is None and message.role == "user")
    kept = tuple(each for each in built.messages[:request] if each.part not in ("similar", "passages", "tools"))
    # A tool that was found is what tells the system message to say how tools are called; here those always offered do.
    return built.model_copy(update={"messages": kept})
