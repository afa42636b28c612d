"""The memory service: opens a turn with what was said before, closes it with what was answered."""

from __future__ import annotations

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
    TurnStored,
)
from schemas.ids import CANCEL_SLOT, RELEASE_SLOT, checked_run
from services.memory.ports import ConversationStore, Queued, Refused


def memory_service(store: ConversationStore, clock: Clock) -> Service:
    """One turn of a conversation is open at a time; a second one waits, interrupts or is refused."""
    service = Service("memory", "remembers conversations")

    @service.on(RecallMemory)
    async def recall(command: RecallMemory, context: Context) -> AnyEvent:
        begun = await store.begin_turn(
            context.tenant, command.conversation, context.run, command.user, command.when_busy, command.deadline,
            clock.now(), command.history_tokens,
        )  # fmt: skip
        if isinstance(begun, Refused):
            return TurnRefused(command=command, by=begun.by)
        if isinstance(begun, Queued):
            if begun.interrupts:
                newer = CancelRequested(by=f"run {context.run}", reason="a newer request of the same conversation")
                await context.append(checked_run(begun.behind), CANCEL_SLOT, newer)
            return TurnQueued(command=command, behind=begun.behind, interrupts=begun.interrupts)
        return MemoryRecalled(command=command, history=begun.history)

    @service.on(StoreTurn)
    async def store_turn(command: StoreTurn, context: Context) -> AnyEvent:
        answer = context.text("answer") if command.outcome == "answered" else None
        released = await store.end_turn(
            context.tenant, command.conversation, context.run, command.user, context.text("task"), answer,
            command.outcome, clock.now(),
        )  # fmt: skip
        if released:
            await context.append(checked_run(released), RELEASE_SLOT, TurnReleased(after=context.run))
        return TurnStored(command=command, released=released)

    return service
