"""Verdicts on items, kept as lines of JSON so that a broken run goes on where it stopped, and what they add up to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict


class Verdict(BaseModel):
    """What a model did with one item. reason: why it was wrong, empty if it was right; tokens: of the prompt."""

    model_config = ConfigDict(frozen=True)

    id: str
    group: str
    reason: str
    calls: tuple[str, ...] = ()
    text: str = ""
    tokens: int = 0
    ms: float = 0.0

    @property
    def right(self) -> bool:
        """Whether nothing was wrong."""
        return not self.reason


class Share(NamedTuple):
    """How many of a group were right."""

    right: int
    items: int

    @property
    def value(self) -> float:
        """The share itself, four digits."""
        return round(self.right / self.items, 4) if self.items else 0.0


class Verdicts:
    """The verdicts of one file; a line that a killed run left unfinished is dropped."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        self.all = [Verdict.model_validate_json(line) for line in whole]
        path.write_text("".join(whole), encoding="utf-8")
        self._path = path

    def has(self, id: str) -> bool:
        """Whether the item has been judged."""
        return any(verdict.id == id for verdict in self.all)

    def add(self, verdict: Verdict) -> None:
        """Judge one more item."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(verdict.model_dump_json() + "\n")
        self.all.append(verdict)


def shares(verdicts: Iterable[Verdict]) -> dict[str, Share]:
    """The share of right ones in each group, in the order in which groups first come."""
    right: defaultdict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        right[verdict.group].append(verdict.right)
    return {group: Share(sum(found), len(found)) for group, found in right.items()}
