"""Who answers in a run that is driven again: its log, but for what is swapped."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeAlias

from infra.cohort.swap import Swap
from runtime import prompt
from runtime.advance import Decision
from runtime.orders import material
from runtime.recording import Answer, Recording, said
from runtime.redrive import Said
from runtime.state import RunState
from schemas.commands import Generate, JudgeCall, SelectTools
from schemas.events import AnswerCopied, CallJudged, Generated, RunRequested, ScoredCard, ToolsSelected
from schemas.messages import Generation, Prompt
from schemas.policy import Grant, Policy, Verdict
from services.policy.judging import GRANT, REVOKED
from services.policy.material import agent_rules, call_of
from services.policy.memory_store import MemoryPolicyStore
from services.policy.ports import Charge
from services.policy.verdicts import Judge

Speak: TypeAlias = Callable[[Generate, Prompt, str], Awaitable[Generation]]
"""Lets a model answer a command from its prompt; the text is a label of its run."""


class Answers:
    """Answers the questions of one run. speak: where a model is needed."""

    def __init__(self, swap: Swap, recording: Recording, speak: Speak | None = None) -> None:
        began = recording.request.time if recording.request else datetime.now(UTC)
        self._swap, self._speak, self._now = swap, speak, began
        self._rules = _Rules(swap.policy, began) if swap.policy is not None else None
        self._selected = next((body for each in recording.facts if isinstance(body := said(each.fact), ToolsSelected)), None)

    def request(self, recorded: RunRequested) -> RunRequested | None:
        """The request with the agent that is swapped; None if it stays as it is."""
        if self._swap.agent is not None:
            return recorded.model_copy(update={"agent": self._swap.agent})
        if self._swap.instructions is not None:
            agent = recorded.agent.model_copy(update={"instructions": self._swap.instructions})
            return recorded.model_copy(update={"agent": agent})
        return None

    async def answer(self, decision: Decision, state: RunState, recorded: Answer | None) -> Said | Answer | None:
        """runtime.redrive.Answerer."""
        self._now = max(self._now, recorded.at) if recorded else self._now
        if recorded and isinstance(recorded.fact.body, AnswerCopied):
            return recorded  # a fork begins after what it was given: that is nobody's to say otherwise
        match decision.command:
            case Generate() as command if self._speak and (self._swap.llm or recorded is None):
                return await self._generated(self._speak, command, state)
            case SelectTools() as command:
                return self._tools(command, recorded)
            case JudgeCall() as command if self._rules:
                verdict = await self._rules.verdict(decision, command, state, self._now, recorded)
                return Said(CallJudged(command=command, verdict=verdict))
        return recorded

    async def _generated(self, speak: Speak, command: Generate, state: RunState) -> Said:
        began = time.monotonic()
        generation = await speak(command, prompt.build(state), state.run)
        took = generation.total_ms / 1000 or time.monotonic() - began
        return Said(Generated(command=command, generation=generation), timedelta(seconds=took))

    def _tools(self, command: SelectTools, recorded: Answer | None) -> Said | Answer | None:
        """What the log says, with the swapped cards; for an agent that asks for others, as far as they are in the log."""
        if self._swap.tools is None and recorded:
            return recorded
        then = self._selected
        if self._swap.tools is not None:
            found = tuple(ScoredCard(card=card, score=1.0) for card in self._swap.tools)
        else:
            found = then.tools if then else ()
        offered = tuple(each for each in found if each.card.name not in command.forbidden)
        if not {each.card.name for each in offered} >= set(command.always):
            return None
        known = then or ToolsSelected(command=command, tools=(), catalog="", searched=len(found))
        return Said(known.model_copy(update={"command": command, "tools": offered}))


class _Rules:
    """The real judge over swapped rules: a store of its own for each run, so limits count what the run itself does."""

    def __init__(self, policy: Policy, began: datetime) -> None:
        self._clock = _Clock(began)
        self._store = MemoryPolicyStore()
        self._judge = Judge(self._store, self._clock, trial=policy)

    async def verdict(
        self, decision: Decision, command: JudgeCall, state: RunState, now: datetime, recorded: Answer | None
    ) -> Verdict:
        """A right that was taken back then stays so; a standing approval that covered the call then still does."""
        then = recorded.body.verdict if recorded and isinstance(recorded.body, CallJudged) else None
        if then and then.rule == REVOKED:
            return then
        self._clock.moment, told = now, material(command, state)
        call = call_of(command, told, state.run)
        if then and then.rule == GRANT and then.grant:
            await self._store.keep_grant(Grant(
                id=then.grant, tenant=state.tenant, tool=call.tool, agent=call.agent, scope="always",
                arguments=command.call.arguments, by="recorded", run=state.run, since=now,
            ))  # fmt: skip
        charge = Charge(
            id=decision.id, run=state.run, call=command.call.id, user=call.user, tool=call.tool,
            money=call.price or Decimal(0), at=now,
        )  # fmt: skip
        return await self._judge.verdict(state.tenant, agent_rules(told.get("agent")), call, charge)


class _Clock:
    """Stands at the moment of the log."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment
