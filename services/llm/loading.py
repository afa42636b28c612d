"""A model that is still on its way: requests wait for it instead of failing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from runtime.errors import Permanent
from schemas.errors import MilepostError
from schemas.messages import Generation, Prompt
from services.llm.model import ANYBODY, Terms, TextModel

log = structlog.get_logger("services.llm")


class LoadingModel:
    """Stands for a model that `load` brings; a failure to load answers every request with its reason."""

    def __init__(self, name: str, bring: Callable[[], Awaitable[TextModel]]) -> None:
        self.name = name
        self._bring = bring
        self._model: TextModel | None = None
        self._failure: MilepostError | None = None
        self._settled = asyncio.Event()

    async def load(self) -> None:
        """Bring the model, once."""
        try:
            self._model = await self._bring()
            log.info("model loaded", model=self._model.name)
        except MilepostError as error:
            self._failure = error
            log.error("model not loaded", what=error.what, why=error.why, hint=error.hint)
        finally:
            self._settled.set()

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        """Wait for the model, then let it speak. Raises Permanent when it could not be loaded."""
        await self._settled.wait()
        if self._model is None:
            failure = self._failure
            raise Permanent(
                f"The model {self.name} could not be loaded.",
                why=f"{failure.what} {failure.why}".strip() if failure else "see the log of the llm service",
                hint=failure.hint if failure and failure.hint else "milepost models pull",
            )
        return await self._model.generate(prompt, on_text=on_text, terms=terms)
