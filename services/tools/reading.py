"""Plans and reads: what changes nothing may be asked again, as often as it takes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runtime.errors import NotYet, Retryable
from runtime.service import Context
from schemas.commands import CallTool, PlanCall
from schemas.errors import MilepostError
from schemas.events import AnyEvent, CallPlanned, Failure, ToolAsked, ToolFailed, ToolReturned
from schemas.tools import repeated_key, write_key
from services.tools.admission import Admitted
from services.tools.failures import failure_of, late, raised
from services.tools.keeping import storable
from services.tools.ledger import EffectLedger, before_of
from services.tools.rates import Rates
from tool_adapters.tool import NeedsAnswer, ToolError, ToolUnavailable

MAX_ATTEMPTS = 8  # a provider may be away for 25 s: pauses double from 0.2 s
MAX_DELIVERIES = 24
"""How often a command is handed out: a host that dies again and again is no reason to give a write up."""
LONGEST_WAIT_S = 60.0
"""Who is told to come back later than this says so instead of waiting."""

T = TypeVar("T")


async def plan(admitted: Admitted, command: PlanCall, context: Context, ledger: EffectLedger) -> AnyEvent:
    """What a write would do, and the key that its effect will have: of one round more if it has happened already."""

    async def look() -> AnyEvent:
        planned = await admitted.tool.plan(admitted.arguments, admitted.context)
        state = admitted.hide.text(planned.state)
        base = write_key(context.tenant, command.call.name, command.call.arguments, state)
        done = await ledger.last_done(context.tenant, base)
        before = before_of(done) if done else None
        key = repeated_key(base, before.times if before else 0)
        preview = admitted.hide.preview(planned.preview)
        return CallPlanned(command=command, preview=preview, state=state, write_key=key, before=before)

    return await _asked(admitted, command, context, look)


async def read(admitted: Admitted, command: CallTool, context: Context, rates: Rates) -> AnyEvent:
    """What the tool says."""

    async def ask() -> AnyEvent:
        result = await admitted.tool.call(admitted.arguments, admitted.context)
        return ToolReturned(command=command, result=await storable(admitted.hide.result(result), admitted.context.keep))

    try:
        await in_turn(admitted, rates)
    except ToolUnavailable as error:
        return unavailable(admitted, command, context, error)
    return await _asked(admitted, command, context, ask)


async def _asked(
    admitted: Admitted, command: PlanCall | CallTool, context: Context, ask: Callable[[], Awaitable[AnyEvent]]
) -> AnyEvent:
    try:
        async with asyncio.timeout(admitted.timeout_s):
            return await ask()
    except NeedsAnswer as asked:
        if isinstance(command, CallTool):
            return ToolAsked(command=command, question=admitted.asks(asked.question))
        return failed(admitted, command, failure_of(asked))
    except ToolUnavailable as error:
        return unavailable(admitted, command, context, error)
    except TimeoutError:
        return failed(admitted, command, late(command.call))
    except ToolError as error:
        return failed(admitted, command, failure_of(error))
    except MilepostError:
        raise
    except Exception as error:
        return failed(admitted, command, raised(command.call, error))


async def in_turn(admitted: Admitted, rates: Rates) -> None:
    """Wait until the tool's rate lets the call through. Raises ToolUnavailable if that would take longer than the call may."""
    card = admitted.tool.card
    wait = rates.take(admitted.context.tenant, card.name, card.rate_per_min, card.timeout_s)
    if wait > card.timeout_s:
        raise ToolUnavailable(
            f"{card.name} is called too often.", why=f"its card lets {card.rate_per_min} calls a minute through",
            hint=f"try again in {wait:.0f} s", retry_after_s=wait,
        )  # fmt: skip
    if wait:
        await asyncio.sleep(wait)


def failed(admitted: Admitted, command: PlanCall | CallTool, failure: Failure) -> ToolFailed:
    """It was not done."""
    return ToolFailed(command=command, failure=admitted.hide.failure(failure))


def unavailable(admitted: Admitted, command: PlanCall | CallTool, context: Context, error: ToolUnavailable) -> ToolFailed:
    """The call is tried again while it may be."""
    try_again(context, error)
    return failed(admitted, command, failure_of(error))


def try_again(context: Context, error: ToolUnavailable) -> None:
    """Raises Retryable or NotYet while the call may be tried again."""
    after = error.retry_after_s
    if context.attempt < MAX_ATTEMPTS and (after is None or after <= LONGEST_WAIT_S):
        raise again(error)


def again(error: ToolUnavailable) -> NotYet | Retryable:
    """Try the same later: when the provider says, and not all at once; else after pauses that grow."""
    if error.retry_after_s is not None:
        return NotYet(error.retry_after_s * random.uniform(1.0, 1.25))  # spreads load, keeps no secret
    return Retryable(error.what, why=error.why, hint=error.hint)
