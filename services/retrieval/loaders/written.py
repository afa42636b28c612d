"""A document that is written line by line, with its headings and pages."""

from __future__ import annotations

from services.retrieval.documents import TITLE_LIMIT, Extracted, Mark, UnreadableDocument

TEXT_LIMIT = 64 * 1024 * 1024


class Written:
    """Collects lines, and where headings and pages begin."""

    def __init__(self) -> None:
        self.length = 0
        self._parts: list[str] = []
        self._marks: list[Mark] = []
        self._pages: list[int] = []

    def heading(self, level: int, title: str) -> None:
        """What follows stands under this heading; it is no part of the text."""
        if title:
            self._marks.append(Mark(self.length, self.length, level, title[:TITLE_LIMIT]))

    def headline(self, level: int, title: str) -> None:
        """As heading, and it is a line of the text too."""
        self._marks.append(Mark(self.length, self.length + len(title), level, title[:TITLE_LIMIT]))
        self.line(title)

    def page(self) -> None:
        """A page begins."""
        self._pages.append(self.length)

    def line(self, text: str) -> None:
        """Add a line. Raises UnreadableDocument when it becomes too much."""
        self._parts.append(f"{text}\n")
        self.length += len(text) + 1
        if self.length > TEXT_LIMIT:
            raise too_long()

    def document(self, title: str = "") -> Extracted:
        """All of it, under the title that it gives itself."""
        title = title[:TITLE_LIMIT]
        root = (Mark(0, 0, 0, title),) if title else ()
        return Extracted(text="".join(self._parts), title=title, marks=(*root, *self._marks), pages=tuple(self._pages))


def too_long() -> UnreadableDocument:
    """The refusal of more text than one document may have."""
    return UnreadableDocument(f"It holds more than {TEXT_LIMIT // 1024**2} million characters of text.", hint="split it")
