"""The port that every language model answers on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from schemas.messages import Generation, Prompt


@dataclass(frozen=True, slots=True)
class Terms:
    """On whose behalf a model speaks. label: prompts of one label extend each other, so a model may keep what it has read.

    batch: gives way to interactive requests. deadline: on time.monotonic's clock, in seconds; after it nobody wants
    the answer.
    """

    label: str = ""
    tenant: str = "default"
    batch: bool = False
    deadline: float | None = None

    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.left() == 0

    def left(self) -> float | None:
        """Seconds until the deadline, 0 after it; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


ANYBODY = Terms()


class TextModel(Protocol):
    """Speaks from a prompt. name: what a run's record says that spoke."""

    name: str

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        """What the model says; on_text hears an answer as it comes. Cancelling the call ends the generation at once."""
        ...
