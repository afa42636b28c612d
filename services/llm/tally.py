"""What a model has said since its process began, in figures."""

from __future__ import annotations

from runtime.histogram import Histogram
from schemas.canonical import JsonObject
from schemas.messages import Generation


class Tally:
    """Tokens read and written, and how long the first ones took."""

    __slots__ = ("_cached", "_first", "_read", "_wrote")

    def __init__(self) -> None:
        self._read = self._cached = self._wrote = 0
        self._first = Histogram()

    def add(self, said: Generation) -> None:
        """Count a generation."""
        self._read += said.usage.prompt_tokens
        self._cached += said.usage.cached_tokens
        self._wrote += said.usage.completion_tokens
        self._first.observe(said.first_token_ms / 1000)

    def told(self) -> JsonObject:
        """tokens: read (of them cached) and written; first_token: a histogram."""
        return {"read": self._read, "cached": self._cached, "wrote": self._wrote, "first_token": self._first.told()}
