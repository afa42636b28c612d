"""Candidates: each is asked what a run asked, with nothing that could change the world, and compared with what the log says."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from infra.cohort.answering import Answers, Speak
from infra.cohort.swap import Swap
from infra.shadow.asked import Asked, asked_in
from infra.shadow.comparing import generations, results, verdicts
from infra.shadow.shadow import Candidate
from infra.wiring import World
from runtime import prompt
from runtime.log import Stored
from runtime.recording import Recording, said
from runtime.redrive import Said
from schemas.commands import AnyCommand, CallTool, Generate, JudgeCall
from schemas.events import AnyEvent, CallJudged, Generated, ToolReturned, ToolsSelected
from schemas.ids import RunId
from schemas.tools import Effect
from services.evaluation.agreement import Agreement
from services.evaluation.course import Action
from tool_adapters.tool import CallContext, Tool, ToolError, validate

CALL_S = 30.0


@dataclass(frozen=True, slots=True)
class Skipped:
    """An answer that is not compared, and why."""

    why: str


Found: TypeAlias = Agreement | Skipped


class Asker(Protocol):
    """A candidate in use. at_once: how many answers it works on side by side."""

    at_once: int

    def wants(self, body: AnyEvent) -> bool:
        """Whether an answer is one that it is compared with."""
        ...

    async def compare(self, run: RunId, facts: Sequence[Stored]) -> Found:
        """What it says in place of a run's last fact. Raises Retryable, and what goes wrong for good."""
        ...


class ModelAsker:
    """Another model, asked from the same prompts."""

    def __init__(self, speak: Speak, at_once: int) -> None:
        self._speak, self.at_once = speak, at_once

    def wants(self, body: AnyEvent) -> bool:
        return isinstance(body, Generated)

    async def compare(self, run: RunId, facts: Sequence[Stored]) -> Found:
        asked = _last(run, facts, Generate)
        if asked is None:
            return Skipped("the log does not tell what was asked")
        command, recorded = asked.decision.command, asked.answer.body
        assert isinstance(command, Generate) and isinstance(recorded, Generated)
        if prompt.digested(asked.state)[1] != command.prompt_hash:
            return Skipped("its prompt was built by other code")
        driven = await self._speak(command, prompt.build(asked.state), run)
        return generations(recorded.generation, driven, _effects(facts), asked.answer.number)


class RulesAsker:
    """Other rules, judged by the real judge. What the run was let do before counts in its limits, as in a cohort."""

    at_once: int = 4

    def __init__(self, swap: Swap) -> None:
        self._swap = swap

    def wants(self, body: AnyEvent) -> bool:
        return isinstance(body, CallJudged)

    async def compare(self, run: RunId, facts: Sequence[Stored]) -> Found:
        answers, found = Answers(self._swap, Recording(run, facts)), Skipped("the log does not tell what was asked")
        last: tuple[Asked, object] | None = None
        for asked in asked_in(run, facts, JudgeCall):
            last = (asked, await answers.answer(asked.decision, asked.state, asked.answer))
        if last is None or last[0].answer.number != len(facts):
            return found
        asked, driven = last
        command, recorded = asked.decision.command, asked.answer.body
        assert isinstance(command, JudgeCall) and isinstance(recorded, CallJudged)
        body = driven.body if isinstance(driven, Said) else recorded
        assert isinstance(body, CallJudged)
        action = Action(
            step=1, event=asked.answer.number, tool=command.call.name, arguments=command.call.arguments, effect=command.effect
        )
        return verdicts(action, recorded.verdict, body.verdict)


class ToolAsker:
    """Another version of a tool, called as the run called it; only calls that read."""

    at_once: int = 4

    def __init__(self, tool: Tool) -> None:
        self._tool = tool

    def wants(self, body: AnyEvent) -> bool:
        return isinstance(body, ToolReturned) and body.command.call.name == self._tool.card.name

    async def compare(self, run: RunId, facts: Sequence[Stored]) -> Found:
        asked = _last(run, facts, CallTool)
        if asked is None:
            return Skipped("the log does not tell what was asked")
        command, recorded, request = asked.decision.command, asked.answer.body, asked.state.request
        assert isinstance(command, CallTool) and isinstance(recorded, ToolReturned) and request is not None
        if command.write_key is not None or self._tool.card.effect != "read":
            return Skipped("a write: a shadow has no right to it")
        action = Action(
            step=1, event=asked.answer.number, tool=command.call.name, arguments=command.call.arguments, effect="read"
        )
        context = CallContext(
            tenant=asked.state.tenant, run=run, user=request.user, timeout_s=CALL_S, conversation=request.conversation,
            agent=request.agent.name, command=asked.decision.id,
        )  # fmt: skip
        began = time.monotonic()
        try:
            validate(self._tool.card, command.call.arguments)
            driven = await self._tool.call(command.call.arguments, context)
        except ToolError:
            driven = None
        return results(action, recorded.result, driven, (asked.seconds, time.monotonic() - began))


def _last(run: RunId, facts: Sequence[Stored], kind: type[AnyCommand]) -> Asked | None:
    """What the last fact answers."""
    return next((each for each in asked_in(run, facts, kind) if each.answer.number == len(facts)), None)


def _effects(facts: Sequence[Stored]) -> dict[str, Effect]:
    selected = [body for each in facts if isinstance(body := said(each.fact), ToolsSelected)]
    return {each.card.name: each.card.effect for body in selected for each in body.tools}


async def bring(candidate: Candidate, world: World) -> tuple[Asker, Callable[[], Awaitable[None]]]:
    """A candidate ready to be asked, and what lets go of it; may take minutes for a model. Raises what keeps it from that."""
    if candidate.kind == "policy":
        return RulesAsker(candidate.swap), _nothing
    if candidate.kind == "llm":
        from infra.cohort.speaking import speaker

        speak, at_once = await speaker(candidate.swap, world.settings, ())
        return ModelAsker(speak, at_once), _nothing
    from infra.tool_kinds import Surroundings, open_source

    assert candidate.source is not None and candidate.spec is not None
    opened = open_source(candidate.source, Surroundings(world.settings.home, world.bus))
    return ToolAsker(opened.tool(candidate.spec)), opened.close


async def _nothing() -> None:
    """There is nothing to let go of."""
