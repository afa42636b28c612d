"""Tables as text: one line a row, in which each value stands behind the name of its column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Rows under a header. first: the number of the first row under it, as a spreadsheet counts, from 1."""

    header: Sequence[str]
    rows: Iterable[tuple[int, Sequence[str]]]

    @staticmethod
    def headed(rows: Iterable[Sequence[str]]) -> Table:
        """The first row that says anything is the header, and the rest are its rows."""
        numbered = iter(enumerate(rows, start=1))
        for _, row in numbered:
            if any(cell.strip() for cell in row):
                return Table([cell.strip() for cell in row], numbered)
        return Table([], ())

    def lines(self) -> Iterator[tuple[int, str]]:
        """Number and text of each row that is not empty."""
        for number, row in self.rows:
            if line := self._line(row):
                yield number, line

    def text(self) -> str:
        """All lines; the header alone where there is no row under it."""
        return "\n".join(line for _, line in self.lines()) or " | ".join(filter(None, self.header))

    def _line(self, row: Sequence[str]) -> str:
        said = []
        for at, cell in enumerate(row):
            value = " ".join(cell.split())
            name = self.header[at] if at < len(self.header) else ""
            if value:
                said.append(f"{name}: {value}" if name else value)
        return "; ".join(said)
