"""What a person may already see of a reply that is still being written."""

from __future__ import annotations

from collections.abc import Callable

from services.llm.wire.form import Wire


class Showing:
    """Passes on what is surely an answer in words. wire: None where no call can come."""

    def __init__(self, wire: Wire | None, on_text: Callable[[str], None]) -> None:
        self._wire, self._on_text = wire, on_text
        self._shown = ""
        self.text = ""

    def hear(self, piece: str) -> None:
        """A further piece of the reply."""
        self.text += piece
        self._show(self._wire.shown(self.text) if self._wire else self.text)

    def end(self, answer: str) -> None:
        """The reply is whole, and this is its answer."""
        self._show(answer)

    def _show(self, text: str) -> None:
        if len(text) > len(self._shown) and text.startswith(self._shown):
            self._on_text(text[len(self._shown) :])
            self._shown = text
