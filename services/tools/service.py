"""The tools service: plans and runs tool calls, and lets no write happen twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from pydantic import ValidationError

from runtime.bus import Bus
from runtime.clock import Clock
from runtime.errors import Permanent, Retryable
from runtime.service import Context, Service
from schemas import subjects
from schemas.canonical import canonical, read_json
from schemas.commands import CallTool, PlanCall
from schemas.errors import MilepostError, ProtocolError
from schemas.events import AnyEvent, CallPlanned, Failure, ToolFailed, ToolInDoubt, ToolReturned
from schemas.ids import Token
from schemas.tools import Refusal, ToolCall, ToolCard, ToolResult, Value, write_key
from services.tools.by_hand import call_by_hand, call_verb
from services.tools.ledger import Claim, Done, EffectLedger, InProgress, Mine
from services.tools.pulse import Pulse
from tool_adapters.tool import (
    CallContext,
    OutcomeUnknown,
    Tool,
    ToolError,
    ToolUnavailable,
    checked_card,
    checked_result,
    validate,
)

log = structlog.get_logger("services.tools")

PUBLISHED_AT_ONCE = 256
WAIT_FOR_OTHER_S = 0.2
SETTLE_S = 5.0  # a request whose answer was lost may still be on its way
MAX_ATTEMPTS = 8  # a provider may be away for 25 s: pauses double from 0.2 s


class ForgetEffects(Value):
    """Runs whose effects are to say nothing any more."""

    tenant: Token
    runs: tuple[str, ...]


class Toolbox:
    """The tools of one host (lane), and the ledger of their effects."""

    def __init__(self, tools: Iterable[Tool], ledger: EffectLedger, clock: Clock, *, lane: str, tenant: str = "*") -> None:
        self.tools = {tool.card.name: tool for tool in tools}
        for tool in self.tools.values():
            checked_card(tool.card)
        self.ledger, self.clock, self.lane, self.tenant = ledger, clock, lane, tenant
        self.pulse = Pulse()
        self.refused: dict[str, Refusal] = {}

    def service(self) -> Service:
        """The service that answers this host's calls."""
        service = Service(
            "tools", f"runs {len(self.tools)} tools", lane=self.lane, attempts=MAX_ATTEMPTS, at_once=32, ack_wait_s=10.0,
            pulse=self.pulse.beat,
        )  # fmt: skip
        service.on(PlanCall)(self.pulse.watched(self.plan))
        service.on(CallTool)(self.pulse.watched(self.call))
        service.answer(call_verb(self.lane))(self.by_hand)
        service.hears[subjects.refused_of(self.lane)] = self._refused
        service.answer("forget")(self.forget)
        return service

    def cards(self) -> list[ToolCard]:
        """The cards of this host's tools, with its lane."""
        return [tool.card.model_copy(update={"lane": self.lane}) for tool in self.tools.values()]

    async def register(self, bus: Bus) -> None:
        """Publish every tool's card, so that retrieval can find it."""
        cards = self.cards()
        for at in range(0, len(cards), PUBLISHED_AT_ONCE):
            await asyncio.gather(*(bus.publish_card(self.tenant, card) for card in cards[at : at + PUBLISHED_AT_ONCE]))

    async def withdraw(self, bus: Bus) -> None:
        """Take the cards back: nobody answers them any more."""
        for card in self.cards():
            await bus.withdraw_card(self.tenant, card)

    async def _refused(self, subject: str, raw: bytes) -> None:
        """The catalogue has said no to one of our cards: that is for people to see."""
        try:
            refusal = Refusal.model_validate_json(raw)
        except ValidationError:
            log.warning("a card was refused", subject=subject)
            return
        self.refused[refusal.tool] = refusal
        log.warning("card refused", tool=refusal.tool, what=refusal.what, why=refusal.why, hint=refusal.hint)

    # --- plan ---

    async def plan(self, command: PlanCall, context: Context) -> AnyEvent:
        """What a write would do, and the key that its effect will have."""
        try:
            tool = self._tool(command.call, command.card_hash)
            async with asyncio.timeout(tool.card.timeout_s):
                plan = await tool.plan(command.call.arguments, self._context(tool, context))
        except ToolUnavailable as error:
            return _unavailable(command, context, error)
        except TimeoutError:
            return ToolFailed(command=command, failure=_late(command.call))
        except ToolError as error:
            return ToolFailed(command=command, failure=_failure(error))
        except MilepostError:
            raise
        except Exception as error:
            return ToolFailed(command=command, failure=_raised(command.call, error))
        key = write_key(context.tenant, command.call.name, command.call.arguments, plan.state)
        return CallPlanned(command=command, preview=plan.preview, state=plan.state, write_key=key)

    # --- call ---

    async def by_hand(self, raw: bytes) -> bytes:
        """CallByHand -> ToolResult; for tools that only read."""
        return await call_by_hand(self.tools, self.tenant, raw)

    async def forget(self, raw: bytes) -> bytes:
        """ForgetEffects -> how many entries lost what they said."""
        try:
            asked = ForgetEffects.model_validate(read_json(raw, limit=1024 * 1024))
        except ValidationError as error:
            raise ProtocolError("The question names no runs.", why=str(error)[:300]) from error
        return canonical({"effects": await self.ledger.forget(asked.tenant, asked.runs)})

    async def call(self, command: CallTool, context: Context) -> AnyEvent:
        """Run a tool: a read straight away, a write through the ledger."""
        try:
            tool = self._tool(command.call, command.card_hash)
        except ToolError as error:
            return ToolFailed(command=command, failure=_failure(error))
        if command.write_key is None:
            if tool.card.effect != "read":
                return ToolFailed(command=command, failure=_unplanned(command.call))
            return await self._read(command, context, tool)
        return await self._write(command, context, tool, command.write_key)

    async def _read(self, command: CallTool, context: Context, tool: Tool) -> AnyEvent:
        try:
            async with asyncio.timeout(tool.card.timeout_s):
                result = await tool.call(command.call.arguments, self._context(tool, context))
            return ToolReturned(command=command, result=checked_result(result))
        except ToolUnavailable as error:
            return _unavailable(command, context, error)
        except TimeoutError:
            return ToolFailed(command=command, failure=_late(command.call))
        except ToolError as error:
            return ToolFailed(command=command, failure=_failure(error))
        except Exception as error:
            return ToolFailed(command=command, failure=_raised(command.call, error))

    async def _write(self, command: CallTool, context: Context, tool: Tool, key: str) -> AnyEvent:
        claim = await self._claim(command, context, tool, key)
        if isinstance(claim, Done):
            return ToolReturned(command=command, result=_receipt(claim.receipt), repeated=claim.by != context.order.id)
        if isinstance(claim, InProgress | Mine) and claim.in_doubt:
            return ToolInDoubt(command=command, failure=_doubted(command.call))
        if isinstance(claim, InProgress):
            return ToolFailed(command=command, failure=_under_way(command.call, claim.by))
        if isinstance(claim, Mine):
            return await self._resume(command, context, tool, key, claim)
        changed = await self._changed(command, context, tool)
        if changed is not None:
            return await self._failed(command, context, key, changed)
        return await self._commit(command, context, tool, key)

    async def _changed(self, command: CallTool, context: Context, tool: Tool) -> Failure | None:
        """Whether the resource is still as it was planned and approved on; looked at just before the write."""
        try:
            async with asyncio.timeout(tool.card.timeout_s):
                plan = await tool.plan(command.call.arguments, self._context(tool, context))
        except ToolUnavailable as error:
            raise Retryable(error.what, why=error.why, hint=error.hint) from error
        except (ToolError, TimeoutError) as error:
            return Failure(type="NotPlannable", what=f"{command.call.name} cannot be done any more.", why=str(error)[:500])
        if plan.state == context.text("state"):
            return None
        return Failure(
            type="StateChanged", what=f"What {command.call.name} is about has changed since it was planned.",
            why="the approval was for the earlier state", hint="ask again",
        )  # fmt: skip

    async def _claim(self, command: CallTool, context: Context, tool: Tool, key: str) -> Claim:
        """Ask the ledger; while another command causes the same effect, wait for its receipt as long as a call may take."""
        waited = 0.0
        while True:
            claim = await self.ledger.claim(
                key, context.tenant, context.run, context.order.id, command.call.name, command.call.arguments,
                context.text("state"), self.clock.now(),
            )  # fmt: skip
            if not isinstance(claim, InProgress) or claim.in_doubt or waited >= tool.card.timeout_s:
                return claim
            await asyncio.sleep(WAIT_FOR_OTHER_S)
            waited += WAIT_FOR_OTHER_S

    async def _resume(self, command: CallTool, context: Context, tool: Tool, key: str, claim: Mine) -> AnyEvent:
        """This command was begun before and has no receipt: it may have been sent. Never simply try again."""
        if tool.card.idempotency == "key":
            return await self._commit(command, context, tool, key, again=True)
        await asyncio.sleep(max(0.0, SETTLE_S - (self.clock.now() - claim.since).total_seconds()))
        return await self._reconcile(command, context, tool, key, "its process died after it was begun")

    async def _reconcile(self, command: CallTool, context: Context, tool: Tool, key: str, why: str) -> AnyEvent:
        """Ask the provider whether it happened; what cannot be known is in doubt."""
        try:
            async with asyncio.timeout(tool.card.timeout_s):
                found = await tool.reconcile(command.call.arguments, self._context(tool, context, key))
        except ToolUnavailable as error:
            raise Retryable(error.what, why=error.why, hint=error.hint) from error
        except (ToolError, TimeoutError) as error:
            return await self._doubt(command, context, key, str(error) or "the provider did not answer in time")
        if found.outcome == "happened":
            result = found.result or ToolResult(text="It happened; its answer was lost.")
            return await self._finish(command, context, key, result)
        if found.outcome == "not_happened":
            return await self._commit(command, context, tool, key)
        return await self._doubt(command, context, key, why)

    async def _commit(self, command: CallTool, context: Context, tool: Tool, key: str, *, again: bool = False) -> AnyEvent:
        """Send it. again: an earlier sending may have arrived, so a refusal now does not mean that nothing happened."""
        try:
            async with asyncio.timeout(tool.card.timeout_s):
                result = await tool.call(command.call.arguments, self._context(tool, context, key))
        except ToolUnavailable as error:
            if context.attempt < MAX_ATTEMPTS:
                raise Retryable(error.what, why=error.why, hint=error.hint) from error
            return await self._not_done(command, context, key, error, again)
        except (OutcomeUnknown, TimeoutError) as error:
            if tool.card.idempotency != "none" and context.attempt < MAX_ATTEMPTS:  # then the claim is ours: _resume
                raise Retryable("The provider did not say whether it happened.", why=str(error)) from error
            return await self._doubt(command, context, key, str(error) or "the provider did not answer in time")
        except ToolError as error:
            return await self._not_done(command, context, key, error, again)
        except Exception as error:
            return await self._doubt(command, context, key, f"the tool raised {type(error).__name__}: {error}")
        return await self._finish(command, context, key, result)

    async def _finish(self, command: CallTool, context: Context, key: str, result: ToolResult) -> AnyEvent:
        try:
            result = checked_result(result)
        except ToolError as error:
            result = ToolResult(text=f"It was done; its answer could not be kept. {error.what}")
        await self.ledger.finish(key, context.tenant, context.order.id, result.model_dump(mode="json"))
        return ToolReturned(command=command, result=result)

    async def _not_done(self, command: CallTool, context: Context, key: str, error: ToolError, again: bool) -> AnyEvent:
        if again:
            return await self._doubt(command, context, key, f"an earlier try got no answer, this one: {error.what}")
        return await self._failed(command, context, key, _failure(error))

    async def _failed(self, command: CallTool, context: Context, key: str, failure: Failure) -> AnyEvent:
        await self.ledger.fail(key, context.tenant, context.order.id, failure.model_dump(mode="json"))
        return ToolFailed(command=command, failure=failure)

    async def _doubt(self, command: CallTool, context: Context, key: str, why: str) -> AnyEvent:
        failure = Failure(type="InDoubt", what=f"Whether {command.call.name} happened is not known.", why=why)
        await self.ledger.doubt(key, context.tenant, context.order.id, failure.model_dump(mode="json"))
        return ToolInDoubt(command=command, failure=failure)

    # --- gate ---

    def _tool(self, call: ToolCall, card_hash: str) -> Tool:
        tool = self.tools.get(call.name)
        if tool is None:
            raise ToolError(f"This host has no tool {call.name}.", why=f"lane {self.lane}", hint="milepost tools ls")
        if tool.card.model_copy(update={"lane": self.lane}).hash() != card_hash:
            raise ToolError(f"{call.name} has changed since the run saw it.", why="its card is another one now")
        validate(tool.card, call.arguments)
        return tool

    def _context(self, tool: Tool, context: Context, key: str | None = None) -> CallContext:
        return CallContext(
            tenant=context.tenant, run=context.run, user=context.text("user"), timeout_s=tool.card.timeout_s,
            write_key=key, planned_state=context.text("state") or None,
        )  # fmt: skip


def _receipt(receipt: dict[str, object]) -> ToolResult:
    try:
        return ToolResult.model_validate(receipt)
    except ValidationError as error:
        raise Permanent("A receipt in the ledger cannot be read.", why=str(error)[:300]) from error


def _unavailable(command: PlanCall | CallTool, context: Context, error: ToolUnavailable) -> AnyEvent:
    if context.attempt < MAX_ATTEMPTS:
        raise Retryable(error.what, why=error.why, hint=error.hint) from error
    return ToolFailed(command=command, failure=_failure(error))


def _failure(error: ToolError) -> Failure:
    return Failure(type=type(error).__name__, what=error.what, why=error.why, hint=error.hint)


def _late(call: ToolCall) -> Failure:
    return Failure(type="Timeout", what=f"{call.name} did not answer in time.", hint="raise timeout_s of its card")


def _raised(call: ToolCall, error: Exception) -> Failure:
    return Failure(type=type(error).__name__, what=f"{call.name} failed.", why=str(error)[:500])


def _unplanned(call: ToolCall) -> Failure:
    return Failure(type="Unplanned", what=f"{call.name} changes the world and was called without a plan.")


def _under_way(call: ToolCall, by: str) -> Failure:
    return Failure(type="EffectUnderWay", what=f"The same {call.name} is under way elsewhere.", why=f"command {by}")


def _doubted(call: ToolCall) -> Failure:
    return Failure(
        type="InDoubt", what=f"An earlier {call.name} of the same kind is in doubt.",
        why="whether it happened is not known", hint="ask the provider, then decide",
    )  # fmt: skip
