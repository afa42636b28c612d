"""Settling: what is in doubt is found out - by asking the provider again and again, or by a person."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Literal

import structlog
from pydantic import ValidationError

from runtime.clock import Clock
from runtime.errors import Unreachable
from runtime.log import Log
from schemas.canonical import JsonObject
from schemas.envelope import new_fact, source_of
from schemas.errors import MilepostError
from schemas.events import EffectSettled, ToolReturned
from schemas.ids import checked_run, event_id, settled_slot
from schemas.tools import ToolResult
from services.tools.admission import Admission
from services.tools.keeping import after_the_fact
from services.tools.ledger import Effect, EffectLedger, Settled
from services.tools.redaction import Redaction
from services.tools.writing import LEASE_S, surely_keyed
from tool_adapters.tool import CallContext, Tool, ToolError

log = structlog.get_logger("services.tools")

EVERY_S = 5.0
AT_ONCE = 8

Found = Literal["happened", "not_happened", "unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What asking about an effect told. why: where it told nothing."""

    outcome: Found
    result: ToolResult | None = None
    why: str = ""


class Settler:
    """Looks after the entries of one host's lane. Of several copies of the host each entry has one at a time."""

    def __init__(
        self, admission: Admission, ledger: EffectLedger, journal: Log, clock: Clock, *, name: str, every_s: float = EVERY_S
    ) -> None:
        self._admission, self._ledger, self._log, self._clock = admission, ledger, journal, clock
        self._name, self._source, self._every_s = name, source_of("tools", name), every_s

    async def run(self) -> None:
        """Settle what can be settled, without end."""
        while True:
            try:
                await self.once()
            except Unreachable as error:
                log.warning("effects are not looked after yet", error=error.what, why=error.why)
            await asyncio.sleep(self._every_s)

    async def once(self) -> int:
        """One round; how many entries were looked after."""
        token = secrets.token_hex(8)
        taken = await self._ledger.look_after(self._admission.lane, token, AT_ONCE, LEASE_S)
        await asyncio.gather(*(self._look_after(effect, token) for effect in taken))
        return len(taken)

    async def reconcile(self, tenant: str, key: str) -> Effect:
        """Ask about one entry now. Raises UnknownEffect, and NotYours for one not in doubt, or just being asked about."""
        token = secrets.token_hex(8)
        await self._look_after(await self._ledger.take(key, tenant, token, LEASE_S), token)
        return await self._known(tenant, key)

    async def settle(self, tenant: str, key: str, *, happened: bool, by: str, note: str) -> Effect:
        """What a person found out. Raises UnknownEffect, Settled, NotYours."""
        receipt = ToolResult(text=f"It happened, says {by}. {note}".strip()).model_dump(mode="json") if happened else None
        now = self._clock.now()
        effect = await self._ledger.settle(key, tenant, now, happened=happened, by=by, note=note, receipt=receipt)
        if effect.settled_by:  # else the tool itself had said so, and the run's log has that
            log.warning("effect settled", effect=key, happened=happened, by=by, note=note)
            await self._tell(effect)
        return effect

    async def _known(self, tenant: str, key: str) -> Effect:
        found = await self._ledger.show(tenant, key)
        assert found is not None, "it was just there"
        return found

    async def _look_after(self, effect: Effect, token: str) -> None:
        if not effect.told:
            await self._tell(effect)
            return
        if effect.state not in ("committed", "in_doubt"):
            await self._ledger.told(effect.key, effect.tenant)
            return
        recorded = await self._recorded(effect) if effect.state == "committed" else None
        if recorded is not None:
            said, now = recorded.model_dump(mode="json"), self._clock.now()
            await self._ledger.finish(effect.key, effect.tenant, effect.command, said, now)
            return
        answer = await self._asked(effect, token)
        if answer.outcome == "unknown":
            log.info("still in doubt", effect=effect.key, tool=effect.tool, why=answer.why)
            if effect.state == "committed":
                await self._doubt(effect, token, answer.why)
            return
        receipt = answer.result.model_dump(mode="json") if answer.result else None
        try:
            settled = await self._ledger.settle(
                effect.key, effect.tenant, self._clock.now(), happened=answer.outcome == "happened", by=f"tools/{self._name}",
                receipt=receipt, token=token,
            )  # fmt: skip
        except (Settled, MilepostError) as error:  # somebody was faster
            if isinstance(error, Unreachable):
                raise
            log.warning("not settled", effect=effect.key, error=error.what, why=error.why)
            return
        log.warning("effect settled", effect=effect.key, tool=effect.tool, happened=settled.state == "done")
        await self._tell(settled)

    async def _recorded(self, effect: Effect) -> ToolResult | None:
        """The receipt in the run's log: it is on disk when the command is answered, the ledger's own a moment later."""
        for stored in await self._log.read(checked_run(effect.run)):
            if stored.fact.slot == effect.command and isinstance(stored.fact.body, ToolReturned):
                return stored.fact.body.result
        return None

    async def _doubt(self, effect: Effect, token: str, why: str) -> None:
        error: JsonObject = {"type": "InDoubt", "what": f"Whether {effect.tool} happened is not known.", "why": why}
        try:
            await self._ledger.doubt(effect.key, effect.tenant, token, error, self._clock.now())
        except MilepostError as late:
            if isinstance(late, Unreachable):
                raise
            log.info("its command goes on", effect=effect.key)

    async def _asked(self, effect: Effect, token: str) -> Answer:
        """What the provider says; nothing that was never sent has happened."""
        if effect.sent_s is None:
            return Answer("not_happened")
        try:
            tool = await self._admission.tool(effect.tenant, effect.tool)
            arguments, known = self._admission.arguments(tool, effect.arguments)
            context = self._context(effect, tool)
            async with asyncio.timeout(tool.card.timeout_s):
                found = await tool.reconcile(arguments, context)
            hide = Redaction(known)
            if found.outcome == "happened":
                result = found.result or ToolResult(text="It happened; its answer was lost.")
                return Answer("happened", await after_the_fact(hide.result(result), context.keep))
            if found.outcome == "unknown" and surely_keyed(tool, effect.sent_s):
                return await self._again(effect, token, tool, arguments, context, hide)
            return Answer(found.outcome, why="the provider cannot tell")
        except (ToolError, TimeoutError) as error:
            return Answer("unknown", why=str(error)[:500] or "the provider did not answer in time")
        except Unreachable:
            raise
        except Exception as error:
            log.exception("reconciling failed", effect=effect.key, tool=effect.tool)
            return Answer("unknown", why=f"{type(error).__name__}: {error}"[:500])

    async def _again(
        self, effect: Effect, token: str, tool: Tool, arguments: dict[str, object], context: CallContext, hide: Redaction
    ) -> Answer:
        """The same call with the same key: the provider does it once, and says what it said before."""
        held = await self._ledger.hold(effect.key, effect.tenant, token, tool.card.timeout_s + LEASE_S, sending=True)
        if not held:
            return Answer("unknown", why="somebody else looks after it")
        async with asyncio.timeout(tool.card.timeout_s):
            result = await tool.call(arguments, context)
        return Answer("happened", await after_the_fact(hide.result(result), context.keep))

    def _context(self, effect: Effect, tool: Tool) -> CallContext:
        return CallContext(
            tenant=effect.tenant, run=effect.run, user=effect.user, timeout_s=tool.card.timeout_s, write_key=effect.key,
            planned_state=effect.planned_state or None, conversation=effect.conversation, command=effect.command,
            keep=self._admission.keep(effect.tenant, effect.datakey),
        )  # fmt: skip

    async def _tell(self, effect: Effect) -> None:
        """Write it into the run's log, once; a log that can never take it is let be. Raises Unreachable."""
        happened = effect.state == "done"
        run = checked_run(effect.run)
        settled = EffectSettled(
            call=effect.command, write_key=effect.key, happened=happened, by=effect.settled_by or "", note=effect.note,
            result=_result(effect) if happened else None,
        )  # fmt: skip
        fact = new_fact(
            settled, run=run, tenant=effect.tenant, slot=settled_slot(effect.command), source=self._source,
            time=effect.finished or self._clock.now(), causes=(event_id(run, effect.tenant, "tools", effect.command),),
            datakey=effect.datakey,
        )  # fmt: skip
        try:
            await self._log.append(fact)
        except Unreachable:
            raise
        except MilepostError as error:  # its segment or its key is gone
            log.warning("the run's log does not take it", effect=effect.key, run=run, error=error.what, why=error.why)
        await self._ledger.told(effect.key, effect.tenant)


def _result(effect: Effect) -> ToolResult | None:
    try:
        return ToolResult.model_validate(effect.receipt)
    except ValidationError:
        return None
