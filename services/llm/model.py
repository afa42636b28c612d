"""The port that every language model answers on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from schemas.messages import Generation, Prompt


class TextModel(Protocol):
    """Speaks from a prompt. name: what a run's record says that spoke."""

    name: str

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], reuse: str = "") -> Generation:
        """What the model says; on_text hears an answer as it comes.

        reuse: prompts of one label extend each other, so that a model may keep what it has read. Cancelling the
        call ends the generation at once.
        """
        ...
