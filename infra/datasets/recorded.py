"""Recorded runs written down as training data: conversations read from the log, cleaned, and put into files by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from infra.datasets.writing import Writing
from runtime.fold import fold
from runtime.log import Stored
from runtime.state import RunState
from schemas.errors import MilepostError
from schemas.ids import RunId
from services.datasets.example import Example
from services.datasets.pseudonyms import Pseudonyms
from services.datasets.recorded import example_of, unfit
from services.datasets.splits import part_of
from services.recorder.ports import RunSummary

Read = Callable[[RunId], Awaitable[Sequence[Stored]]]


class NoConversations(MilepostError):
    """There is nothing to write."""


@dataclass
class Written:
    """What has been written. examples: by part; skipped: runs by reason; files: SHA-256 by name."""

    examples: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    files: dict[str, str] = field(default_factory=dict)

    def told(self) -> dict[str, object]:
        """The same as data, the tools by how often they are called."""
        return {
            "runs": self.runs, "examples": dict(self.examples), "skipped": dict(self.skipped),
            "tools": dict(self.tools.most_common()), "files": self.files,
        }  # fmt: skip


async def conversations(found: AsyncIterator[RunSummary], *, single: bool) -> dict[str, list[RunId]]:
    """The runs of each conversation, oldest first; only their ids are held. Raises NoConversations.

    single: each run is one of its own, as a fork always is: nobody said it after the run that it leaves.
    """
    begun: dict[str, list[tuple[datetime, RunId]]] = {}
    async for run in found:
        begun.setdefault(run.run if single or run.fork_of else run.conversation, []).append((run.started, RunId(run.run)))
    if not begun:
        raise NoConversations("No run fits.", why="forks are left out unless forks:yes chooses them", hint="milepost runs ls")
    return {name: [run for _, run in sorted(runs)] for name, runs in sorted(begun.items())}


class DatasetFiles:
    """A folder with a file for each format and part, none if `with` is left by an error. names: take out secrets and persons.

    Raises DatasetExists, and MilepostError where nothing can be written.
    """

    def __init__(self, folder: Path, formats: Iterable[str], shares: Mapping[str, float], names: Pseudonyms) -> None:
        self._shares, self._names = shares, names
        self._files = Writing(folder, formats)
        for part in shares:
            self._files.begin(part)
        self.written = Written()

    def __enter__(self) -> DatasetFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files.__exit__(kind, error, trace)

    async def add_all(
        self, talks: Mapping[str, Sequence[RunId]], read: Read, progress: Callable[[int], None] = lambda done: None
    ) -> None:
        """Add every conversation; runs that teach nothing good are left out, and counted. Raises what reading raises."""
        for done, (name, runs) in enumerate(talks.items(), 1):
            turns = [state for run in runs if (state := self._fit(fold(run, await read(run)).state))]
            if turns:
                self.add(example_of(_id_of(name), turns))
            progress(done)

    def _fit(self, state: RunState) -> RunState | None:
        reason = unfit(state)
        if reason:
            self.written.skipped[reason] += 1
            return None
        self.written.runs += 1
        return state

    def add(self, example: Example) -> None:
        """Add one conversation, to the part that its name says."""
        part, cleaned = part_of(example.id, self._shares), self._names.example(example)
        self._files.add(part, cleaned)
        self.written.examples[part] += 1
        self.written.tools.update(cleaned.calls)

    def close(self, told: Mapping[str, object]) -> Written:
        """End the files and write the card: what is told of them, and what is in them; that."""
        self.written.files = self._files.close({**told, **self.written.told(), "replaced": dict(self._names.replaced)})
        return self.written


def _id_of(name: str) -> str:
    """A name that tells nothing of who spoke."""
    return f"milepost-{sha256(name.encode()).hexdigest()[:16]}"
