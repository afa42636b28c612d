"""A model that is still on its way: requests wait for it instead of failing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from runtime.errors import Permanent
from schemas.errors import MilepostError
from schemas.messages import Generation, Prompt
from services.llm.admission import EngineStopped
from services.llm.model import ANYBODY, Terms, TextModel

log = structlog.get_logger("services.llm")

AGAIN_S = 30.0


class LoadingModel:
    """Stands for a model that `bring` brings when it is first needed; after a failure it is tried again half a minute later."""

    def __init__(self, name: str, bring: Callable[[], Awaitable[TextModel]]) -> None:
        self.name = name
        self._bring = bring
        self._coming: asyncio.Task[TextModel] | None = None
        self._failed_at = 0.0

    async def load(self) -> None:
        """Bring the model; why it did not come is logged, and told to whoever asks."""
        try:
            await self._model()
        except Permanent as error:
            log.error("model not loaded", what=error.what, why=error.why, hint=error.hint)

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        """Wait for the model, then let it speak; one whose engine broke is brought again. Raises Permanent if it cannot be."""
        model = await self._model()
        try:
            return await model.generate(prompt, on_text=on_text, terms=terms)
        except EngineStopped:
            if self._coming and self._coming.done() and self._coming.result() is model:
                self._coming = None
            raise

    def stats(self) -> dict[str, object]:
        """What the model says of itself; nothing until it is there."""
        tell = getattr(self._there(), "stats", dict)
        return dict(tell())

    def forget(self) -> None:
        """Drop what is kept of earlier prompts, if the model keeps any."""
        drop = getattr(self._there(), "forget", None)
        if drop:
            drop()

    def _there(self) -> TextModel | None:
        if self._coming is None or not self._coming.done() or self._coming.cancelled() or self._coming.exception():
            return None
        return self._coming.result()

    async def _model(self) -> TextModel:
        if self._coming is None or (self._failed_at and time.monotonic() > self._failed_at + AGAIN_S):
            self._coming, self._failed_at = asyncio.get_running_loop().create_task(self._fetch()), 0.0
        try:
            return await asyncio.shield(self._coming)  # one that stops waiting does not stop the others
        except MilepostError as failure:
            raise Permanent(
                f"The model {self.name} could not be loaded.",
                why=f"{failure.what} {failure.why}".strip(), hint=failure.hint or "milepost models pull",
            ) from failure  # fmt: skip

    async def _fetch(self) -> TextModel:
        try:
            model = await self._bring()
        except MilepostError:
            self._failed_at = time.monotonic()
            raise
        except Exception as error:
            self._failed_at = time.monotonic()
            raise Permanent(f"Loading {self.name} failed unexpectedly.", why=repr(error)[:300]) from error
        log.info("model loaded", model=model.name)
        return model
