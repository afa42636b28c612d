"""A run as lists show it, summed up fact by fact."""

from __future__ import annotations

from typing import get_args

from runtime.advance import Decision
from runtime.fold import Folded
from runtime.log import Stored
from runtime.state import RunState
from schemas.events import Generated, RunSealed
from schemas.ids import RunId
from schemas.runs import RunSummary, Status

SEALED_KIND = RunSealed.__name__


class Sum:
    """One run as far as its log was read: its fold, and what is counted beside it."""

    def __init__(self, run: RunId) -> None:
        self.folded = Folded(RunState(run=run))
        self._events = self._tokens = self._cached = self._seq = 0
        self._models: dict[str, None] = {}
        self._receipt: int | None = None
        self.position = 0

    @property
    def state(self) -> RunState:
        """What the run has come to."""
        return self.folded.state

    def add(self, stored: Stored) -> tuple[Decision, ...]:
        """Count one more fact (older ones are passed over); gives what that fact caused."""
        if stored.position <= self.position:
            return ()
        self.position = stored.position
        body = stored.fact.body
        if stored.fact.kind == SEALED_KIND:
            self._receipt = body.receipt.number if isinstance(body, RunSealed) else self._receipt
            return ()
        self._events, self._seq = self._events + 1, stored.position
        if isinstance(body, Generated):
            usage = body.generation.usage
            self._tokens += usage.prompt_tokens + usage.completion_tokens
            self._cached += usage.cached_tokens
            if body.generation.model:
                self._models[body.generation.model] = None
        return self.folded.add(stored)

    def summary(self) -> RunSummary | None:
        """The run as lists show it; None as long as nobody knows what was asked."""
        state = self.state
        request = state.request
        if request is None or state.requested_at is None:
            return None
        status: Status = state.outcome if state.outcome in get_args(Status) else "open"  # type: ignore[assignment]
        paid = not request.fork  # a fork changes nothing: what it copies was paid by the run that it left
        return RunSummary(
            run=state.run, tenant=state.tenant, status=status, agent=request.agent.name, user=request.user,
            conversation=request.conversation, task=request.task, answer=state.answer, started=state.requested_at,
            ended=state.ended_at, steps=state.steps, tools=_called(state), seq=self._seq, sealed=state.datakey is not None,
            events=self._events, models=tuple(self._models), tokens=self._tokens, cached=self._cached,
            writes=state.writes if paid else 0,
            money={currency: f"{amount:f}" for currency, amount in sorted(state.spent.items()) if amount and paid},
            parent=request.parent.run if request.parent else None, fork_of=request.fork.run if request.fork else None,
            receipt=self._receipt,
        )  # fmt: skip


def _called(state: RunState) -> tuple[str, ...]:
    return tuple(dict.fromkeys(call.name for message in state.messages for call in message.calls))
