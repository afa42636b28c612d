"""The tools service: plans and runs tool calls, and lets no write happen twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import structlog
from pydantic import ValidationError

from runtime.bus import Bus, Hear
from runtime.clock import Clock
from runtime.log import Log
from runtime.payloads import Payloads
from runtime.service import Context, Service
from schemas import subjects
from schemas.canonical import canonical, read_json
from schemas.commands import CallTool, PlanCall
from schemas.errors import ProtocolError
from schemas.events import AnyEvent, ToolFailed
from schemas.ids import Token
from schemas.tools import Refusal, ToolCard, Value
from services.tools import reading
from services.tools.admission import Admission, OrderGate, Refused
from services.tools.argument_secrets import Secrets
from services.tools.by_hand import call_by_hand, call_verb
from services.tools.effects import EffectQuestions, reconcile_verb
from services.tools.failures import failure_of, unplanned
from services.tools.ledger import EffectLedger
from services.tools.pulse import Pulse
from services.tools.rates import Rates
from services.tools.redaction import Redaction
from services.tools.settling import Settler
from services.tools.shelf import FixedShelf, Shelf
from services.tools.writing import Writer
from tool_adapters.tool import Tool, ToolError, ToolUnavailable

log = structlog.get_logger("services.tools")

PUBLISHED_AT_ONCE = 256


class ForgetEffects(Value):
    """Runs whose effects are to say nothing any more."""

    tenant: Token
    runs: tuple[str, ...]


class Toolbox:
    """The tools of one host (lane), and the ledger of their effects.

    tools: all of them, or a shelf that finds them; tenant: whose they are, `*` for all. gate: asked first whether a run may
    give an order at all; hears: what it must hear for that (subject -> receiver). payloads: where bytes are kept.
    journal: where it is told what became of effects in doubt.
    """

    def __init__(
        self, tools: Iterable[Tool] | Shelf, ledger: EffectLedger, clock: Clock, *, lane: str, tenant: str = "*",
        gate: OrderGate | None = None, payloads: Payloads | None = None, secrets: Secrets | None = None,
        journal: Log | None = None, name: str = "", hears: Mapping[str, Hear] | None = None,
    ) -> None:  # fmt: skip
        self.shelf: Shelf = FixedShelf(tools, tenant) if isinstance(tools, Iterable) else tools
        self.ledger, self.clock, self.lane, self.tenant = ledger, clock, lane, tenant
        self.admission = Admission(self.shelf, lane, gate=gate, payloads=payloads, secrets=secrets)
        self.rates = Rates()
        self.writer = Writer(ledger, clock, self.rates, lane=lane)
        self.settler = Settler(self.admission, ledger, journal, clock, name=name or lane) if journal else None
        self.pulse, self._hears = Pulse(), hears or {}
        self.refused: dict[str, Refusal] = {}

    def service(self) -> Service:
        """The service that answers this host's calls."""
        service = Service(
            "tools", f"runs {len(self.shelf)} tools", lane=self.lane, attempts=reading.MAX_DELIVERIES, at_once=32,
            ack_wait_s=10.0, pulse=self.pulse.beat,
        )  # fmt: skip
        service.on(PlanCall)(self.pulse.watched(self.plan))
        service.on(CallTool)(self.pulse.watched(self.call))
        service.answer(call_verb(self.lane))(self.by_hand)
        service.hears |= {subjects.refused_of(self.lane): self._refused, **self._hears}
        service.answer("forget")(self.forget)
        if self.settler is not None:
            self._answer_about_effects(service, EffectQuestions(self.ledger, self.settler))
        return service

    async def upkeep(self) -> None:
        """Look after effects in doubt, without end; beside the worker of each host that has a journal."""
        if self.settler is None:
            raise ValueError("a toolbox without a journal cannot tell what became of effects")
        await self.settler.run()

    def cards(self) -> list[ToolCard]:
        """The cards that this host publishes, with its lane."""
        return [card.model_copy(update={"lane": self.lane}) for card in self.shelf.cards()]

    async def register(self, bus: Bus) -> None:
        """Publish every tool's card, so that retrieval can find it."""
        cards = self.cards()
        for at in range(0, len(cards), PUBLISHED_AT_ONCE):
            await asyncio.gather(*(bus.publish_card(self.tenant, card) for card in cards[at : at + PUBLISHED_AT_ONCE]))

    async def withdraw(self, bus: Bus) -> None:
        """Take the cards back: nobody answers them any more."""
        for card in self.cards():
            await bus.withdraw_card(self.tenant, card)

    # --- commands ---

    async def plan(self, command: PlanCall, context: Context) -> AnyEvent:
        """What a write would do, and the key that its effect will have."""
        try:
            admitted = await self.admission.admit(command, context)
        except Refused as refused:
            return ToolFailed(command=command, failure=refused.failure)
        except ToolError as error:
            return _not_admitted(command, context, error)
        return await reading.plan(admitted, command, context, self.ledger)

    async def call(self, command: CallTool, context: Context) -> AnyEvent:
        """Run a tool: a read straight away, a write through the ledger."""
        try:
            admitted = await self.admission.admit(command, context)
        except Refused as refused:
            return ToolFailed(command=command, failure=refused.failure)
        except ToolError as error:
            return _not_admitted(command, context, error)
        if command.write_key is not None:
            return await self.writer.write(admitted, command, context, command.write_key)
        if admitted.tool.card.effect != "read":
            return ToolFailed(command=command, failure=unplanned(command.call))
        return await reading.read(admitted, command, context, self.rates)

    # --- questions ---

    async def by_hand(self, raw: bytes) -> bytes:
        """CallByHand -> ToolResult; for tools that only read."""
        return await call_by_hand(self.admission, self.rates, raw)

    async def forget(self, raw: bytes) -> bytes:
        """ForgetEffects -> how many entries lost what they said."""
        try:
            asked = ForgetEffects.model_validate(read_json(raw, limit=1024 * 1024))
        except ValidationError as error:
            raise ProtocolError("The question names no runs.", why=str(error)[:300]) from error
        return canonical({"effects": await self.ledger.forget(asked.tenant, asked.runs)})

    def _answer_about_effects(self, service: Service, questions: EffectQuestions) -> None:
        service.answer("effects")(questions.list_effects)
        service.answer("effect")(questions.show)
        service.answer("effect_settle")(questions.settle)
        service.answer("effect_undone")(questions.undone)
        service.answer(reconcile_verb(self.lane))(questions.reconcile)

    async def _refused(self, subject: str, raw: bytes) -> None:
        """The catalogue has said no to one of our cards: that is for people to see."""
        try:
            refusal = Refusal.model_validate_json(raw)
        except ValidationError:
            log.warning("a card was refused", subject=subject)
            return
        self.refused[refusal.tool] = refusal
        log.warning("card refused", tool=refusal.tool, what=refusal.what, why=refusal.why, hint=refusal.hint)


def _not_admitted(command: PlanCall | CallTool, context: Context, error: ToolError) -> ToolFailed:
    if isinstance(error, ToolUnavailable):
        reading.try_again(context, error)
    return ToolFailed(command=command, failure=Redaction().failure(failure_of(error)))
