"""The memory service: opens a turn with what was said before, closes it with what was answered."""

from __future__ import annotations

import structlog
from pydantic import TypeAdapter, ValidationError

from runtime.clock import Clock
from runtime.service import Context, Service
from schemas.commands import RecallMemory, StoreTurn
from schemas.events import (
    AnyEvent,
    CancelRequested,
    MemoryRecalled,
    TurnQueued,
    TurnRefused,
    TurnReleased,
    TurnResult,
    TurnStored,
)
from schemas.ids import CANCEL_SLOT, RELEASE_SLOT, checked_run
from services.memory.budget import kept_results
from services.memory.over_the_bus import meaning_of
from services.memory.ports import ConversationStore, Embed, EndedTurn, NewTurn, Queued, Refused, Wanted
from services.memory.questions import Questions
from services.memory.summaries import of_summary, tidy
from services.memory.upkeep import Upkeep

log = structlog.get_logger("services.memory")

_RESULTS = TypeAdapter(tuple[TurnResult, ...])


def memory_service(
    store: ConversationStore, clock: Clock, *, embed: Embed | None = None, upkeep: Upkeep | None = None,
    questions: Questions | None = None,
) -> Service:  # fmt: skip
    """One turn of a conversation is open at a time; a second one waits, interrupts or is refused.

    embed: makes the vectors of requests; without it turns are found by their words alone. upkeep: hears of every turn.
    """
    service = Service("memory", "remembers conversations")
    for verb, reply in (questions.answers if questions else {}).items():
        service.answer(verb)(reply)

    @service.on(RecallMemory)
    async def recall(command: RecallMemory, context: Context) -> AnyEvent:
        turn = NewTurn(
            conversation=command.conversation, run=context.run, user=command.user, when_busy=command.when_busy,
            deadline=command.deadline,
        )  # fmt: skip
        begun = await store.begin_turn(context.tenant, turn, clock.now())
        if isinstance(begun, Refused):
            return TurnRefused(command=command, by=begun.by)
        if isinstance(begun, Queued):
            if begun.interrupts:
                newer = CancelRequested(by=f"run {context.run}", reason="a newer request of the same conversation")
                await context.append(checked_run(begun.behind), CANCEL_SLOT, newer)
            return TurnQueued(command=command, behind=begun.behind, interrupts=begun.interrupts)
        query = context.text("query")
        wanted = Wanted(
            run=context.run, history_tokens=command.history_tokens, similar=command.similar, facts=command.facts,
            facts_when=command.facts_when, summary=command.summary, query=query,
            meaning=await meaning_of(query, embed) if command.similar else None,
        )  # fmt: skip
        told = await store.recall(context.tenant, wanted)
        return MemoryRecalled(
            command=command, history=told.history, similar=told.similar, summary=told.summary, facts=told.facts
        )  # fmt: skip

    @service.on(StoreTurn)
    async def store_turn(command: StoreTurn, context: Context) -> AnyEvent:
        ended = await store.end_turn(context.tenant, await _said(command, context), clock.now())
        if ended.released:
            await context.append(checked_run(ended.released), RELEASE_SLOT, TurnReleased(after=context.run))
        if upkeep:
            upkeep.stored(context.tenant, command.conversation, command.user, ended.history_tokens)
        return TurnStored(command=command, released=ended.released)

    async def _said(command: StoreTurn, context: Context) -> EndedTurn:
        """What is kept of the turn. A summarising run's answer is kept as the summary, and nothing else of it."""
        answer = context.text("answer") if command.outcome == "answered" else None
        place = {"conversation": command.conversation, "run": context.run, "user": command.user, "outcome": command.outcome}
        if of_summary(command.conversation):
            await store.summarised(context.tenant, context.run, tidy(answer or "", context.text("task")))
            return EndedTurn.model_validate({**place, "task": "", "answer": None})
        results = kept_results(_results(context))
        return EndedTurn.model_validate({**place, "task": context.text("task"), "answer": answer, "results": results})

    return service


def _results(context: Context) -> tuple[TurnResult, ...]:
    try:
        return _RESULTS.validate_python(context.material.get("results") or ())
    except ValidationError as error:
        log.warning("results of a turn are not kept", why=str(error)[:300])
        return ()
