"""A host of tools beats by itself, and tells how it does."""

from __future__ import annotations

import asyncio

from runtime.memory_broker import MemoryBroker
from runtime.service import BEAT_S, Worker
from schemas import subjects
from schemas.commands import CallTool
from schemas.envelope import new_order, source_of
from schemas.events import ToolFailed, ToolReturned
from schemas.ids import CommandId
from schemas.tools import Beat, Refusal, ToolCall
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.pulse import LAST, Pulse
from services.tools.service import Toolbox
from tests.support.builders import NOW, run_of
from tests.support.simulation import LoopClock, in_virtual_time
from tool_adapters.python import tool
from tool_adapters.tool import ToolRefused, ToolUnavailable


@tool(effect="read")
async def absent() -> str:
    """Is away."""
    raise ToolUnavailable("The provider is away.")


@tool(effect="read")
async def refusing() -> str:
    """Says no."""
    raise ToolRefused("No.", code="No")


@tool(effect="read")
async def slow() -> str:
    """Takes a while."""
    await asyncio.sleep(30)
    return "done"


async def beats_of(broker: MemoryBroker, heard: list[Beat]) -> None:
    async def hear(_: str, raw: bytes) -> None:
        heard.append(Beat.model_validate_json(raw))

    async with broker.hear(subjects.beat("mine"), hear):
        await asyncio.Event().wait()


async def ask_for(broker: MemoryBroker, box: Toolbox, name: str, number: int) -> None:
    card = next(card for card in box.cards() if card.name == name)
    command = CallTool(call=ToolCall(id=f"c{number}", name=name), card_hash=card.hash(), host=box.lane)
    order = new_order(
        command, id=CommandId(f"{number:032x}"), run=run_of(), tenant="default", source=source_of("conductor", "test"),
        time=NOW, causes=("e" * 32,),
    )  # fmt: skip
    await broker.send(order)


@in_virtual_time
async def test_a_worker_of_tools_beats_every_two_seconds_with_its_queue_and_its_failures() -> None:
    broker, heard = MemoryBroker(), list[Beat]()
    box = Toolbox([absent, refusing, slow], MemoryEffectLedger(), LoopClock(), lane="mine")
    listening = asyncio.create_task(beats_of(broker, heard))
    await asyncio.sleep(0)
    working = asyncio.create_task(Worker(box.service(), broker, broker, LoopClock(), name="w").run(drain_s=0.1))
    await asyncio.sleep(10 * BEAT_S + 0.1)
    assert heard == [Beat()] * 11
    for number, name in enumerate(["absent", "refusing", "slow", "slow"]):
        await ask_for(broker, box, name, number)
    await asyncio.sleep(BEAT_S)
    assert heard[-1].queue == 2
    assert 0.5 < heard[-1].failing < 1.0  # each try of the one, not the other's no
    await asyncio.sleep(60)
    assert heard[-1].queue == 0
    for task in (working, listening):
        task.cancel()
    await asyncio.gather(working, listening, return_exceptions=True)


@in_virtual_time
async def test_only_the_last_calls_count() -> None:
    pulse, broken = Pulse(), True
    command = CallTool(call=ToolCall(id="c", name="t"), card_hash="h", host="mine")

    async def handle(*_: object) -> ToolFailed | ToolReturned:
        if broken:
            return ToolFailed.model_validate({"command": command, "failure": {"type": "Timeout", "what": "late"}})
        return ToolReturned.model_validate({"command": command, "result": {"text": "well"}})

    counted = pulse.watched(handle)
    for _ in range(LAST):
        await counted(command, None)  # type: ignore[arg-type]  # the handler does not look at it
    assert pulse.beat().failing == 1.0
    broken = False
    for _ in range(LAST):
        await counted(command, None)  # type: ignore[arg-type]
    assert pulse.beat().failing == 0.0


@in_virtual_time
async def test_a_host_knows_which_of_its_cards_were_refused() -> None:
    broker = MemoryBroker()
    box = Toolbox([slow], MemoryEffectLedger(), LoopClock(), lane="mine")
    working = asyncio.create_task(Worker(box.service(), broker, broker, LoopClock(), name="w").run(drain_s=0.1))
    await asyncio.sleep(0.1)
    refusal = Refusal(tenant="default", lane="mine", tool="slow", what="The name is taken.")
    await broker.tell(subjects.refused(subjects.card("default", "mine", "slow")), refusal.model_dump_json().encode())
    await broker.tell(subjects.refused(subjects.card("default", "other", "slow")), refusal.model_dump_json().encode())
    await broker.tell(subjects.refused(subjects.card("default", "mine", "odd")), b"what?")
    assert box.refused == {"slow": refusal}
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
