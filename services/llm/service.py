"""The llm service: answers Generate with what a model said, and lets listeners hear it as it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime

from pydantic import ValidationError

from runtime.clock import Clock
from runtime.errors import Permanent, Retryable
from runtime.service import Context, Service
from runtime.speech import Busy, Delta, read_missed, write_busy, write_delta
from schemas import subjects
from schemas.commands import Generate
from schemas.events import AnyEvent, Generated
from schemas.messages import Generation, Prompt
from services.llm.engine import DeadlinePassed, ModelBusy
from services.llm.model import Terms
from services.llm.models import Models

AT_ONCE = 32
# Beginnings of one text: those of a delivery's fallbacks stay below those of the next delivery.
BEGINNINGS = 16
PIECE = 32_768


def llm_service(models: Models, clock: Clock, *, at_once: int = AT_ONCE, lane: str = "main") -> Service:
    """A service that speaks through models. at_once: commands taken side by side; what a model has no room for waits."""
    service = Service(
        "llm", f"generates with {models.default}", lane=lane, at_once=at_once, ack_wait_s=15.0, stats=models.stats
    )
    voices: dict[str, _Voice] = {}

    @service.on(Generate)
    async def generate(command: Generate, context: Context) -> AnyEvent:
        prompt = _prompt(context)
        voice = voices[context.order.id] = _Voice(context)
        speaking = asyncio.create_task(voice.speak())
        try:
            terms, names = _terms(command, context, clock), (command.model, *command.fallback)
            generation = await _patiently(
                context, terms, lambda: models.generate(names, prompt, on_text=voice.hear, on_begin=voice.begin, terms=terms)
            )
        finally:
            voice.end()
            try:
                await speaking
            finally:
                voices.pop(context.order.id, None)
        return Generated(command=command, generation=generation, attempt=context.attempt)

    async def say_again(subject: str, data: bytes) -> None:
        voice = voices.get(subject.rsplit(".", 1)[-1])
        if voice:
            await voice.repeat(*read_missed(data))

    async def forget(subject: str, data: bytes) -> None:
        models.forget()

    service.hears[subjects.missed("*", "*", "*")] = say_again
    service.hears[subjects.forget("*")] = forget
    return service


async def _patiently(context: Context, terms: Terms, generate: Callable[[], Awaitable[Generation]]) -> Generation:
    """Comes back to a model that is full, until the deadline, and says so to whoever waits; that is no failure."""
    while True:
        try:
            return await generate()
        except ModelBusy as busy:
            left = terms.left()
            if left == 0:
                raise DeadlinePassed(began=False) from busy
            told = Busy(context.order.id, busy.retry_after_s, busy.limit)
            await context.tell(subjects.busy(context.tenant, context.run, context.order.id), write_busy(told))
            await asyncio.sleep(busy.retry_after_s if left is None else min(left, busy.retry_after_s))


def _prompt(context: Context) -> Prompt:
    try:
        return Prompt.model_validate(context.material.get("prompt"))
    except ValidationError as error:
        raise Permanent("The command came without a prompt.", why=str(error)[:300]) from error


def _terms(command: Generate, context: Context, clock: Clock) -> Terms:
    due = context.text("deadline")
    left = (datetime.fromisoformat(due) - clock.now()).total_seconds() if due else None
    return Terms(
        label=context.run, tenant=context.tenant, batch=command.priority == "batch",
        deadline=None if left is None else time.monotonic() + left,
    )  # fmt: skip


class _Voice:
    """Carries text from a model to the bus in pieces as large as have gathered meanwhile, and repeats what was missed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._subject = subjects.delta(context.tenant, context.run, context.order.id)
        self._attempt = (context.attempt - 1) * BEGINNINGS + 1
        self._text = ""
        self._told = 0
        self._more = asyncio.Event()
        self._ended = False

    def begin(self) -> None:
        """A model takes its turn: whatever another one said before is void; one that was busy said nothing."""
        if self._text:
            self._attempt += 1
            self._text, self._told = "", 0

    def hear(self, text: str) -> None:
        self._text += text
        self._more.set()

    def end(self) -> None:
        self._ended = True
        self._more.set()

    async def speak(self) -> None:
        while not (self._ended and self._told == len(self._text)):
            await self._more.wait()
            self._more.clear()
            while self._told < len(self._text):
                begun = self._told
                self._told = min(len(self._text), begun + PIECE)
                await self._tell(begun, self._told)

    async def repeat(self, attempt: int, offset: int) -> None:
        """Tell a listener's gap again, to all: whoever has the piece already knows by its offset."""
        begun, attempt = offset if attempt == self._attempt else 0, self._attempt
        while attempt == self._attempt and begun < self._told:
            await self._tell(begun, min(self._told, begun + PIECE))
            begun += PIECE

    async def _tell(self, start: int, stop: int) -> None:
        delta = Delta(self._context.order.id, self._attempt, start, self._text[start:stop])
        with suppress(Retryable):  # who misses a piece asks again or reads the fact; the generation goes on
            await self._context.tell(self._subject, write_delta(delta))
