"""The llm service: answers Generate with what the model said, and lets listeners hear it as it comes."""

from __future__ import annotations

import asyncio

from pydantic import ValidationError

from runtime.client import Delta, write_delta
from runtime.errors import Permanent
from runtime.service import Context, Service
from schemas import subjects
from schemas.commands import Generate
from schemas.events import AnyEvent, Generated
from schemas.messages import Prompt
from services.llm.model import Terms, TextModel


def llm_service(model: TextModel, *, at_once: int = 4, lane: str = "main") -> Service:
    """A service that speaks through one model."""
    service = Service("llm", f"generates with {model.name}", lane=lane, at_once=at_once, ack_wait_s=15.0)

    @service.on(Generate)
    async def generate(command: Generate, context: Context) -> AnyEvent:
        try:
            prompt = Prompt.model_validate(context.material.get("prompt"))
        except ValidationError as error:
            raise Permanent("The command came without a prompt.", why=str(error)[:300]) from error
        voice = _Voice(context)
        speaking = asyncio.create_task(voice.speak())
        try:
            generation = await model.generate(
                prompt,
                on_text=voice.hear,
                terms=Terms(label=context.run, tenant=context.tenant, batch=command.priority == "batch"),
            )
        finally:
            voice.end()
            await speaking
        return Generated(command=command, generation=generation, attempt=context.attempt)

    return service


def _terms(command: Generate, context: Context) -> Terms:
    return Terms(label=context.run, tenant=context.tenant, batch=command.priority == "batch")


class _Voice:
    """Carries text from the model to the bus in pieces as large as have gathered meanwhile."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._subject = subjects.delta(context.tenant, context.run, context.order.id)
        self._text: list[str] = []
        self._offset = 0
        self._more = asyncio.Event()
        self._ended = False

    def hear(self, text: str) -> None:
        self._text.append(text)
        self._more.set()

    def end(self) -> None:
        self._ended = True
        self._more.set()

    async def speak(self) -> None:
        while not (self._ended and not self._text):
            await self._more.wait()
            self._more.clear()
            piece, self._text = "".join(self._text), []
            if piece:
                delta = Delta(self._context.order.id, self._context.attempt, self._offset, piece)
                self._offset += len(piece)
                await self._context.tell(self._subject, write_delta(delta))
