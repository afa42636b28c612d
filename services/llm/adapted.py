"""A model with the caller's own prompt or parser around it."""

from __future__ import annotations

from collections.abc import Callable

from schemas.messages import Generation, Prompt
from services.llm.model import ANYBODY, Terms, TextModel

PromptGenerator = Callable[[Prompt], Prompt]
Parser = Callable[[Generation], Generation]


class AdaptedModel:
    """Rewrites what the model reads (prompt) and what it said (parser)."""

    def __init__(self, model: TextModel, *, prompt: PromptGenerator | None = None, parser: Parser | None = None) -> None:
        self.name = model.name
        self._model, self._prompt, self._parser = model, prompt, parser

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        """As the model, between the two."""
        asked = self._prompt(prompt) if self._prompt else prompt
        said = await self._model.generate(asked, on_text=on_text, terms=terms)
        return self._parser(said) if self._parser else said
