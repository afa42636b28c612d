"""A worker of one write in a process of its own, which says where it is so that a test can stop it there.

Arguments: the database's address, the file that effects are written to, the order as JSON, where to say so (planning or
verified), the seconds of its lease. Prints that word when it is there, and the kind of its event at the end.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from infra.postgres.effects import PostgresEffectLedger
from infra.postgres.engine import connect
from runtime.bus import Bus
from runtime.clock import SystemClock
from runtime.memory_broker import MemoryBroker
from runtime.service import Context
from schemas.canonical import canonical
from schemas.commands import CallTool
from schemas.envelope import Order, decode_order
from schemas.events import AnyEvent
from schemas.ids import RunId
from schemas.tools import Preview, ToolCard, ToolResult
from services.tools.service import Toolbox
from services.tools.writing import Writer
from tool_adapters.tool import CallContext, Plan, Reconciled

STATE = canonical({"letters": 0}).decode()
SHORT_S = 0.3


class Letters:
    """Appends a line to a file: neither a key nor a query tells one sending from two."""

    card = ToolCard(
        name="send", description="sends a letter", parameters={"type": "object"}, effect="write", idempotency="none",
        timeout_s=10,
    )  # fmt: skip

    def __init__(self, file: Path, who: str, where: str = "") -> None:
        self.file, self.who, self.where = file, who, where

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        if self.where == "planning":
            print("planning", flush=True)
            await asyncio.sleep(SHORT_S)
        return Plan(Preview(summary="Send a letter"), STATE)

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        with self.file.open("a") as file:
            file.write(f"{self.who}\n")
        return ToolResult(text=f"sent by {self.who}")

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        return Reconciled("unknown")


class Verified(PostgresEffectLedger):
    """Says when the last look at the claim was good, and takes a moment before anything is sent."""

    async def hold(
        self, key: str, tenant: str, token: str, lease_s: float, *, sending: bool,
        price: str | None = None, currency: str | None = None,
    ) -> bool:  # fmt: skip
        held = await super().hold(key, tenant, token, lease_s, sending=sending)
        if held and sending:
            print("verified", flush=True)
            time.sleep(SHORT_S)  # noqa: ASYNC251  # the whole process is to stand still
        return held


def box_for(url: str, file: Path, who: str, where: str, lease_s: float) -> Toolbox:
    """A host of the tool."""
    kind = Verified if where == "verified" else PostgresEffectLedger
    ledger, clock = kind(connect(url)), SystemClock()
    box = Toolbox([Letters(file, who, where)], ledger, clock, lane="letters")
    box.writer = Writer(ledger, clock, box.rates, lane="letters", lease_s=lease_s)
    return box


async def carried_out(box: Toolbox, order: Order, bus: Bus | None = None) -> AnyEvent:
    """The event that answers the order."""

    async def append(run: RunId, slot: str, event: object) -> bool:
        raise AssertionError("nothing is stated here")

    assert isinstance(order.body, CallTool)
    return await box.call(order.body, Context(order, 1, append, (bus or MemoryBroker()).tell))


if __name__ == "__main__":
    url, file, order, where, lease_s = sys.argv[1:]
    event = asyncio.run(carried_out(box_for(url, Path(file), "stopped", where, float(lease_s)), decode_order(order.encode())))
    print(type(event).__name__, flush=True)
