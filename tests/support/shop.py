"""A provider for tests of effects: it sells, forgets answers, falls silent, and knows what really happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from runtime.memory_broker import MemoryBroker
from runtime.service import Context
from schemas.canonical import canonical
from schemas.commands import CallTool, PlanCall
from schemas.envelope import Order
from schemas.events import AnyEvent, CallPlanned
from schemas.ids import RunId
from schemas.tools import Idempotency, Preview, ToolCard, ToolResult
from services.tools.ledger import EffectLedger
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.service import Toolbox
from tests.support.builders import call, order_for, run_of
from tests.support.simulation import LoopClock
from tool_adapters.tool import CallContext, Plan, Reconciled

ITEM: dict[str, object] = {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}


@dataclass
class Shop:
    """Sells items. sold: what happened, by write key; stock: the state that plans are made on.

    before, after: what goes wrong before or after the sale (an exception to raise, once each). knows: what asking tells,
    None for the truth. planning: awaited in each plan.
    """

    idempotency: Idempotency = "query"
    sold: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    stock: int = 0
    before: list[Exception] = field(default_factory=list)
    after: list[Exception] = field(default_factory=list)
    knows: str | None = None
    planning: Callable[[], Awaitable[object]] | None = None
    asked: int = 0
    contexts: list[CallContext] = field(default_factory=list)
    said: str = "sold"
    rate_per_min: int | None = None
    parameters: dict[str, object] = field(default_factory=lambda: ITEM)

    @property
    def card(self) -> ToolCard:
        return ToolCard(
            name="sell", description="sells", parameters=self.parameters, effect="write", idempotency=self.idempotency,
            timeout_s=20, rate_per_min=self.rate_per_min,
        )  # fmt: skip

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        if self.planning:
            await self.planning()
        preview = Preview(summary=f"Sell {arguments['item']}", price="888.00", currency="CNY")
        return Plan(preview, canonical({"stock": self.stock}).decode())

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        self.contexts.append(context)
        await asyncio.sleep(0.01)
        if self.before:
            raise self.before.pop(0)
        if self.idempotency != "key" or context.write_key not in self.keys:
            self.sold.append(str(arguments["item"]))
            self.keys.append(str(context.write_key))
        if self.after:
            raise self.after.pop(0)
        return ToolResult(text=f"{self.said} {arguments['item']}")

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        self.asked += 1
        if self.knows == "unknown":
            return Reconciled("unknown")
        happened = context.write_key in self.keys
        return Reconciled("happened", ToolResult(text="it was sold")) if happened else Reconciled("not_happened")


@dataclass
class Counter:
    """A toolbox over the shop, and orders for it as the conductor sends them."""

    shop: Shop
    ledger: EffectLedger = field(default_factory=MemoryEffectLedger)
    broker: MemoryBroker = field(default_factory=MemoryBroker)

    def box(self, ledger: EffectLedger | None = None) -> Toolbox:
        """A host; each is as a process of its own."""
        return Toolbox([self.shop], ledger or self.ledger, LoopClock(), lane="shop", journal=self.broker, name="w1")

    def order(self, command: PlanCall | CallTool, *, id: str = "1" * 32, run: RunId | None = None, **material: object) -> Order:
        order = order_for(command, id=id, run=run)
        return replace(order, material={"user": "ann", "conversation": "talk", "agent": "ops", **material})

    def context(self, order: Order, attempt: int = 1) -> Context:
        async def append(run: RunId, slot: str, event: object) -> bool:
            raise AssertionError("nothing is stated here")

        return Context(order, attempt, append, self.broker.tell)

    async def planned(self, item: str = "tea", run: RunId | None = None) -> CallPlanned:
        box = self.box()
        command = PlanCall(call=call("sell", item=item), card_hash=box.cards()[0].hash(), host="shop")
        event = await box.plan(command, self.context(self.order(command, run=run)))
        assert isinstance(event, CallPlanned), event
        return event

    def sale(self, plan: CallPlanned, *, id: str = "2" * 32, run: RunId | None = None, **material: object) -> Order:
        """The order to do what was planned."""
        asked = plan.command
        command = CallTool(call=asked.call, card_hash=asked.card_hash, host="shop", plan="p" * 32, write_key=plan.write_key)
        return self.order(command, id=id, run=run or run_of(), **{"state": plan.state, **material})

    async def sell(self, order: Order, box: Toolbox | None = None, attempt: int = 1) -> AnyEvent:
        assert isinstance(order.body, CallTool)
        return await (box or self.box()).call(order.body, self.context(order, attempt))
