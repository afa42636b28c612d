"""The llm service: text is heard as it comes, repeated where it was missed, and what a busy model cannot take comes again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from runtime.clock import SystemClock
from runtime.errors import Unreachable
from runtime.memory_broker import MemoryBroker
from runtime.service import Context, Worker
from runtime.speech import Busy, Delta, hear_text, read_busy, read_delta
from schemas import subjects
from schemas.commands import Generate
from schemas.errors import MilepostError
from schemas.events import AnyEvent, Generated, StepFailed
from schemas.ids import RunId
from schemas.messages import Generation, Message, Prompt, Sampling
from services.llm.engine import ModelBusy
from services.llm.model import ANYBODY, Terms, TextModel
from services.llm.models import Models
from services.llm.service import PIECE, _Voice, llm_service
from tests.support.builders import TENANT, order_for, run_of

PROMPT = Prompt(messages=(Message(role="user", content="hello"),))
COMMAND = Generate(model="default", after=None, inputs=(), prompt_hash=PROMPT.hash(), sampling=Sampling())


class Speaker:
    """Says what it is told to by the test, piece by piece; remembers the terms."""

    name = "speaker"

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[str | MilepostError | None] = asyncio.Queue()
        self.terms: list[Terms] = []

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        self.terms.append(terms)
        text = ""
        while (piece := await self.pieces.get()) is not None:
            if isinstance(piece, MilepostError):
                raise piece
            text += piece
            on_text(piece)
        return Generation(text=text, model=self.name)


@asynccontextmanager
async def speaking(*models: Speaker, broker: MemoryBroker | None = None) -> AsyncIterator[MemoryBroker]:
    broker, clock = broker or MemoryBroker(), SystemClock()

    async def bring(name: str) -> TextModel:
        return models[int(name)] if name.isdigit() else models[0]

    worker = Worker(llm_service(Models("speaker", bring), clock), broker, broker, clock, name="w")
    ready = asyncio.Event()
    task = asyncio.create_task(worker.run(ready, drain_s=0.1))
    await ready.wait()
    yield broker
    task.cancel()
    await asyncio.wait({task})


async def send(broker: MemoryBroker, command: Generate = COMMAND, **material: object) -> None:
    order = order_for(command)
    await broker.send(replace(order, material={"prompt": PROMPT.model_dump(mode="json"), **material}))


async def fact(broker: MemoryBroker) -> Generated | StepFailed:
    async for stored in broker.follow(run_of()):
        assert isinstance(stored.fact.body, Generated | StepFailed)
        return stored.fact.body
    raise AssertionError


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def text_of(heard: list[Delta]) -> str:
    return "".join(delta.text for delta in heard)


async def test_text_is_heard_before_the_fact_holds_it() -> None:
    speaker, heard = Speaker(), list[Delta]()
    async with speaking(speaker) as broker, hear_text(broker, TENANT, run_of(), heard.append):
        await send(broker)
        speaker.pieces.put_nowait("Hello ")
        await until(lambda: text_of(heard) == "Hello ")
        for piece in ("wor", "ld", None):
            speaker.pieces.put_nowait(piece)
        said = await fact(broker)
    assert isinstance(said, Generated)
    assert said.generation.text == text_of(heard) == "Hello world"
    assert {delta.attempt for delta in heard} == {1}


async def test_who_joins_late_hears_it_all() -> None:
    speaker, early, late = Speaker(), list[Delta](), list[Delta]()
    async with speaking(speaker) as broker, hear_text(broker, TENANT, run_of(), early.append):
        await send(broker)
        speaker.pieces.put_nowait("你好, ")
        await until(lambda: text_of(early) == "你好, ")
        async with hear_text(broker, TENANT, run_of(), late.append):
            speaker.pieces.put_nowait("world")
            await until(lambda: text_of(late) == "你好, world")
        await until(lambda: text_of(early) == "你好, world")
        speaker.pieces.put_nowait(None)
        await fact(broker)


async def test_another_model_taking_over_begins_the_text_anew() -> None:
    first, second, heard = Speaker(), Speaker(), list[Delta]()
    async with speaking(first, second) as broker, hear_text(broker, TENANT, run_of(), heard.append):
        await send(broker, COMMAND.model_copy(update={"model": "0", "fallback": ("1",)}))
        first.pieces.put_nowait("I will f")
        await until(lambda: text_of(heard) == "I will f")
        first.pieces.put_nowait(MilepostError("It went away."))
        second.pieces.put_nowait("Done.")
        second.pieces.put_nowait(None)
        said = await fact(broker)
    assert isinstance(said, Generated)
    assert said.generation.text == "Done." and said.generation.tried == ("0: It went away.",)
    assert [(delta.attempt, delta.offset, delta.text) for delta in heard] == [(1, 0, "I will f"), (2, 0, "Done.")]


async def test_a_busy_model_is_told_and_asked_again_without_counting() -> None:
    speaker, told, heard = Speaker(), list[Busy](), list[Delta]()

    async def hear(subject: str, data: bytes) -> None:
        told.append(read_busy(data, subject.rsplit(".", 1)[-1]))

    async with (
        speaking(speaker) as broker,
        broker.hear(subjects.busy(TENANT, run_of(), "*"), hear),
        hear_text(broker, TENANT, run_of(), heard.append),
    ):
        for _ in range(7):  # more often than a failing command is tried
            speaker.pieces.put_nowait(ModelBusy(9, retry_after_s=0.01))
        for piece in ("ok", None):
            speaker.pieces.put_nowait(piece)
        await send(broker)
        said = await fact(broker)
    assert isinstance(said, Generated) and said.generation.text == "ok"
    assert len(told) == 7 and told[0] == Busy("c" * 32, 0.01, 9)
    assert {delta.attempt for delta in heard} == {1}  # else these would outnumber the next delivery's


async def test_nobody_waits_for_a_busy_model_beyond_the_deadline() -> None:
    speaker = Speaker()
    for _ in range(3):
        speaker.pieces.put_nowait(ModelBusy(9, retry_after_s=60))
    async with speaking(speaker) as broker, asyncio.timeout(20):
        await send(broker, deadline=(datetime.now(UTC) + timedelta(seconds=0.3)).isoformat())
        said = await fact(broker)
    assert isinstance(said, StepFailed) and said.failure.type == "DeadlinePassed"


async def test_a_bus_that_carries_no_pieces_costs_no_generation() -> None:
    class Mute(MemoryBroker):
        async def tell(self, subject: str, data: bytes) -> None:
            raise Unreachable("The bus is away.")

    speaker = Speaker()
    for piece in ("ok", None):
        speaker.pieces.put_nowait(piece)
    async with speaking(speaker, broker=Mute()) as broker, asyncio.timeout(20):
        await send(broker)
        said = await fact(broker)
    assert isinstance(said, Generated) and said.generation.text == "ok"
    assert len(speaker.terms) == 1


async def test_what_is_told_again_ends_where_another_model_takes_over() -> None:
    told: list[Delta] = []

    async def tell(subject: str, data: bytes) -> None:
        told.append(read_delta(data, "c"))
        if len(told) == 3:
            voice.begin()

    voice = _Voice(Context(order_for(COMMAND), 1, append=_never, tell=tell))
    voice.hear("x" * 2 * PIECE)
    voice.end()
    await voice.speak()
    await voice.repeat(1, 0)
    assert [(delta.attempt, delta.offset) for delta in told] == [(1, 0), (1, PIECE), (1, 0)]


async def _never(run: RunId, slot: str, event: AnyEvent) -> bool:
    raise AssertionError


async def test_the_terms_say_for_whom_and_until_when() -> None:
    speaker = Speaker()
    speaker.pieces.put_nowait(None)
    async with speaking(speaker) as broker:
        due = datetime.now(UTC) + timedelta(seconds=60)
        await send(broker, COMMAND.model_copy(update={"priority": "batch"}), deadline=due.isoformat())
        await fact(broker)
    (terms,) = speaker.terms
    assert (terms.tenant, terms.label, terms.batch) == (TENANT, run_of(), True)
    assert terms.deadline is not None and 50 < terms.deadline - time.monotonic() <= 60


async def test_a_cancelled_run_stops_the_model() -> None:
    speaker = Speaker()
    async with speaking(speaker) as broker:
        await send(broker)
        await until(lambda: bool(speaker.terms))
        await broker.tell(subjects.stop("llm", run_of()), b"")
        speaker.pieces.put_nowait("too late")
        await send(broker, COMMAND.model_copy(update={"inputs": ("e-2",)}))
        await until(lambda: len(speaker.terms) == 2 or speaker.pieces.qsize() == 1)
    assert await broker.read(run_of()) == []


@pytest.mark.parametrize("material", [{}, {"prompt": {"messages": 3}}])
async def test_a_command_without_a_prompt_fails_with_words(material: dict[str, object]) -> None:
    async with speaking(Speaker()) as broker:
        await broker.send(replace(order_for(COMMAND), material=material))
        said = await fact(broker)
    assert isinstance(said, StepFailed) and said.failure.what == "The command came without a prompt."
