"""Writes: each goes through the ledger, so that its effect happens once, whoever dies, stops or is late."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import structlog
from pydantic import ValidationError

from runtime.clock import Clock
from runtime.errors import Permanent, Retryable, Unreachable
from runtime.service import Context
from schemas.canonical import JsonObject
from schemas.commands import CallTool
from schemas.events import AnyEvent, Failure, ToolAsked, ToolInDoubt, ToolReturned
from schemas.tools import ToolResult
from services.tools import failures
from services.tools.admission import Admitted
from services.tools.keeping import after_the_fact
from services.tools.ledger import Claim, Claimed, Done, EffectLedger, ForeignKey, InProgress, Intent, Mine, NotYours, round_of
from services.tools.rates import Rates
from services.tools.reading import LONGEST_WAIT_S, MAX_ATTEMPTS, again, failed, in_turn
from tool_adapters.python import conversation_state
from tool_adapters.tool import CallContext, NeedsAnswer, OutcomeUnknown, Plan, Tool, ToolError, ToolUnavailable

log = structlog.get_logger("services.tools")

T = TypeVar("T")

LEASE_S = 6.0
RENEW_S = 2.0
WAIT_FOR_OTHER_S = 0.2
SETTLE_S = 5.0  # a request whose answer was lost may still be on its way
KEY_WINDOW_S = 600.0
"""How long a provider surely knows a key again, if its adapter does not say (`key_window_s`)."""


class Fenced(Exception):
    """Another worker has taken the claim over, or it cannot be told in time that none has: nothing is sent."""


@dataclass(frozen=True, slots=True)
class Write:
    """One try of a write. token: of its claim; resumed: an earlier try may have sent it."""

    admitted: Admitted
    command: CallTool
    context: Context
    key: str
    token: str
    plan: Plan | None = None
    resumed: bool = False

    @property
    def keyed(self) -> CallContext:
        """The context of a call that carries its key."""
        return replace(self.admitted.context, write_key=self.key)


class Writer:
    """Carries out the writes of one host. monotonic: seconds that do not go back, whatever becomes of the clock."""

    def __init__(
        self, ledger: EffectLedger, clock: Clock, rates: Rates, *, lane: str, lease_s: float = LEASE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._ledger, self._clock, self._rates, self._lane = ledger, clock, rates, lane
        self._lease_s, self._monotonic = lease_s, monotonic

    async def write(self, admitted: Admitted, command: CallTool, context: Context, key: str) -> AnyEvent:
        """Cause the effect of this key, unless it has happened; what became of it is the event."""
        while True:
            write = Write(admitted, command, context, key, secrets.token_hex(8))
            try:
                return await self._try(write)
            except ForeignKey as error:
                return failed(admitted, command, failures.foreign_key(command.call, error.what))
            except Fenced:
                log.warning("another worker has the claim", effect=key)
                await asyncio.sleep(WAIT_FOR_OTHER_S)

    async def _try(self, write: Write) -> AnyEvent:
        await self._in_turn(write)
        asked = self._monotonic()
        claim = await self._claim(write)
        match claim:
            case Claimed(sending=True):
                self._in_time(asked)
                return await self._carry_out(write)
            case Done(receipt=receipt, by=by):
                return ToolReturned(command=write.command, result=_receipt(receipt), repeated=by != write.context.order.id)
            case InProgress(in_doubt=True):
                return ToolInDoubt(command=write.command, failure=failures.doubted(write.command.call, write.key))
            case InProgress(by=by) if by == write.context.order.id:
                raise Retryable(f"{write.command.call.name} is still under way in another worker.")
            case InProgress(by=by):
                return failed(write.admitted, write.command, failures.under_way(write.command.call, by))
            case Mine():
                return await self._resume(write, claim)
        try:
            write = replace(write, plan=await self._looked(write))
        except _Not as no:
            return await self._not_done(write, no.failure)
        return await self._send(write)

    async def _in_turn(self, write: Write) -> None:
        """Wait for the tool's rate before anything is claimed, so that no write is late with its lease."""
        try:
            await in_turn(write.admitted, self._rates)
        except ToolUnavailable as error:
            raise again(error) from error

    async def _claim(self, write: Write) -> Claim:
        """Ask the ledger; while another one causes the same effect, wait for its receipt as long as a call may take.

        Raises ForeignKey before anything is claimed.
        """
        context, call, waited = write.context, write.command.call, 0.0
        state = context.text("state")
        base, number = round_of(context.tenant, call.name, call.arguments, state, write.key)
        intent = Intent(
            key=write.key, base=base, round=number, tenant=context.tenant, run=context.run,
            conversation=context.text("conversation"), user=context.text("user"), command=context.order.id,
            approval=write.command.approval, datakey=context.order.header.datakey, lane=self._lane, tool=call.name,
            arguments=call.arguments, planned_state=state,
        )  # fmt: skip
        patience_s = max(write.admitted.timeout_s, 2 * self._lease_s)
        while True:
            claim = await self._ledger.claim(intent, write.token, self._clock.now(), self._lease_s, sending=_blind(write))
            if not isinstance(claim, InProgress) or claim.in_doubt or waited >= patience_s:
                return claim
            await asyncio.sleep(WAIT_FOR_OTHER_S)
            waited += WAIT_FOR_OTHER_S

    async def _looked(self, write: Write) -> Plan:
        """The plan anew: whether the resource is still as it was planned and approved on. Raises _Not."""
        call, admitted = write.command.call, write.admitted
        try:
            async with asyncio.timeout(admitted.timeout_s):
                plan = await self._held_through(write, admitted.tool.plan(admitted.arguments, admitted.context), sending=False)
        except ToolUnavailable as error:
            raise await self._later(write, error) from error
        except (ToolError, TimeoutError) as error:
            raise _Not(failures.not_plannable(call, str(error))) from error
        if admitted.hide.text(plan.state) != write.context.text("state"):
            raise _Not(failures.changed(call))
        return plan

    # --- resume ---

    async def _resume(self, write: Write, claim: Mine) -> AnyEvent:
        """This command has been begun before and has no receipt: it may have been sent. Never simply try again."""
        write = replace(write, resumed=True)
        if surely_keyed(write.admitted.tool, claim.first_s):
            return await self._send(write)
        await self._held_through(write, asyncio.sleep(max(0.0, SETTLE_S - claim.last_s)), sending=False)
        return await self._reconcile(write, "its process died after it was begun")

    async def _reconcile(self, write: Write, why: str) -> AnyEvent:
        """Ask the provider whether it happened; what cannot be known is in doubt."""
        admitted = write.admitted
        try:
            async with asyncio.timeout(admitted.timeout_s):
                found = await self._held_through(write, admitted.tool.reconcile(admitted.arguments, write.keyed), sending=False)
        except ToolUnavailable as error:
            raise await self._later(write, error) from error
        except (ToolError, TimeoutError) as error:
            return await self._doubt(write, str(error) or "the provider did not answer in time")
        if found.outcome == "happened":
            return await self._finish(write, found.result or ToolResult(text="It happened; its answer was lost."))
        if found.outcome == "not_happened":
            return await self._send(replace(write, resumed=False))
        return await self._doubt(write, why)

    # --- send ---

    async def _send(self, write: Write) -> AnyEvent:
        """Send it, if the claim is still ours. resumed: a refusal now does not mean that nothing happened."""
        await self._verify(write)
        return await self._carry_out(write)

    async def _carry_out(self, write: Write) -> AnyEvent:
        admitted, card = write.admitted, write.admitted.tool.card
        try:
            async with asyncio.timeout(admitted.timeout_s):
                result = await self._held_through(write, admitted.tool.call(admitted.arguments, write.keyed), sending=True)
        except NeedsAnswer as asked:
            if write.resumed:
                return await self._doubt(write, f"an earlier try got no answer, this one asks: {asked.what}")
            await self._give_back(write, failures.failure_of(asked))
            return ToolAsked(command=write.command, question=admitted.asks(asked.question))
        except ToolUnavailable as error:
            return await self._unavailable(write, error)
        except (OutcomeUnknown, TimeoutError) as error:
            if card.idempotency != "none" and write.context.attempt < MAX_ATTEMPTS:  # then the claim is ours: _resume
                await self._ledger.release(write.key, write.context.tenant, write.token)
                raise Retryable("The provider did not say whether it happened.", why=str(error)) from error
            return await self._doubt(write, str(error) or "the provider did not answer in time")
        except ToolError as error:
            if write.resumed:
                return await self._doubt(write, f"an earlier try got no answer, this one: {error.what}")
            return await self._not_done(write, failures.failure_of(error))
        except Fenced:
            raise
        except Exception as error:
            return await self._doubt(write, f"the tool raised {type(error).__name__}: {error}")
        return await self._finish(write, result)

    async def _verify(self, write: Write) -> None:
        """The last look before it is sent: the claim must be ours, and the answer that says so must be young. Raises Fenced."""
        asked, price = self._monotonic(), write.plan.preview if write.plan else None
        held = await self._ledger.hold(
            write.key, write.context.tenant, write.token, self._lease_s, sending=True,
            price=price.price if price else None, currency=price.currency if price else None,
        )  # fmt: skip
        if not held:
            raise Fenced
        self._in_time(asked)

    def _in_time(self, asked: float) -> None:
        """What was asked at that moment may be acted on now. Raises Fenced for an old answer: others may have claimed since."""
        if self._monotonic() - asked >= self._lease_s / 2:
            raise Fenced

    async def _held_through(self, write: Write, work: Awaitable[T], *, sending: bool) -> T:
        """Await something while the lease is renewed; it is broken off when the claim is another one's by then."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=self._lease_s / 3))[0]:
                if not await self._still_held(write, sending):
                    raise Fenced
            return task.result()
        finally:
            task.cancel()

    async def _still_held(self, write: Write, sending: bool) -> bool:
        try:
            return await self._ledger.hold(write.key, write.context.tenant, write.token, self._lease_s, sending=sending)
        except Unreachable:  # nobody else can claim it now either
            return True

    async def _unavailable(self, write: Write, error: ToolUnavailable) -> AnyEvent:
        """Nothing was done by this try."""
        if write.resumed:
            if write.context.attempt < MAX_ATTEMPTS:
                raise await self._later(write, error)
            return await self._doubt(write, f"an earlier try got no answer, this one: {error.what}")
        after = error.retry_after_s or 0.0
        if write.context.attempt >= MAX_ATTEMPTS or after > LONGEST_WAIT_S:
            return await self._not_done(write, failures.failure_of(error))
        await self._give_back(write, failures.failure_of(error))
        raise again(error)

    async def _later(self, write: Write, error: ToolUnavailable) -> Exception:
        await self._ledger.release(write.key, write.context.tenant, write.token)
        return again(error)

    # --- what became of it ---

    async def _finish(self, write: Write, result: ToolResult) -> AnyEvent:
        """It happened: this is written down, however long that takes."""
        context = write.context
        result = await after_the_fact(write.admitted.hide.result(result), write.admitted.context.keep)
        receipt = result.model_dump(mode="json")
        await _patiently(lambda: self._ledger.finish(write.key, context.tenant, context.order.id, receipt, self._clock.now()))
        return ToolReturned(command=write.command, result=result)

    async def _not_done(self, write: Write, failure: Failure) -> AnyEvent:
        await self._give_back(write, failure)
        return failed(write.admitted, write.command, failure)

    async def _give_back(self, write: Write, failure: Failure) -> None:
        said = write.admitted.hide.failure(failure).model_dump(mode="json")
        await self._leave(write, self._ledger.fail, said)

    async def _doubt(self, write: Write, why: str) -> AnyEvent:
        failure = write.admitted.hide.failure(failures.in_doubt(write.command.call, why, write.key))
        await self._leave(write, self._ledger.doubt, failure.model_dump(mode="json"))
        return ToolInDoubt(command=write.command, failure=failure)

    async def _leave(
        self, write: Write, change: Callable[[str, str, str, JsonObject, datetime], Awaitable[None]], said: JsonObject
    ) -> None:
        try:
            await _patiently(lambda: change(write.key, write.context.tenant, write.token, said, self._clock.now()))
        except NotYours as error:  # then another worker goes on with it
            raise Fenced from error


class _Not(Exception):
    """It is not to be done, and was not."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


def _blind(write: Write) -> bool:
    """Whether there is nothing to look at before it is sent: the plan saw no world, only the conversation."""
    card, context = write.admitted.tool.card, write.admitted.context
    return card.dry_run == "none" and context.planned_state == conversation_state(context)


def surely_keyed(tool: Tool, since_s: float) -> bool:
    """Whether the provider surely still tells this call apart by its key, so many seconds after it was first sent."""
    window_s = float(getattr(tool, "key_window_s", KEY_WINDOW_S))
    return tool.card.idempotency == "key" and since_s + tool.card.timeout_s < window_s


def _receipt(receipt: dict[str, object]) -> ToolResult:
    try:
        return ToolResult.model_validate(receipt)
    except ValidationError as error:
        raise Permanent("A receipt in the ledger cannot be read.", why=str(error)[:300]) from error


async def _patiently(work: Callable[[], Awaitable[None]]) -> None:
    """While the ledger is away, wait for it here: what was done is known to this worker alone."""
    pause = 0.1
    while True:
        try:
            return await work()
        except Unreachable as error:
            log.warning("waits", error=error.what, why=error.why, pause_s=pause)
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)
