"""What a person sees while documents are added: bars, what came in, what was refused, and what is waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from infra.cli.show import as_json, clean, console, plain
from infra.ingestion.ingest import Outcome, Watch
from infra.ingestion.originals import Original
from runtime.errors import Unreachable
from services.retrieval.ingestion import SectionAdded


@contextmanager
def watching(documents: int) -> Iterator[Watch]:
    """Shows how it goes on while the block runs; nothing with --json."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[said]}", style="dim"),
        TimeElapsedColumn(),
    )
    out = console(stderr=True)
    with Progress(*columns, console=out, disable=as_json() or not out.is_terminal, transient=True) as bars:
        yield _Bars(bars, documents)


class _Bars(Watch):
    """A bar for all, and one for each document that takes longer."""

    def __init__(self, bars: Progress, documents: int) -> None:
        self._bars = bars
        self._all = bars.add_task("documents", total=documents, said="")
        self._each: dict[str, tuple[TaskID, int]] = {}
        self._chunks = self._tokens = 0
        self._began = time.monotonic()
        self._waiting = False

    def began(self, original: Original, characters: int) -> None:
        name = clean(original.name).replace("[", "\\[")
        self._each[original.source] = (self._bars.add_task(name, total=characters, said=""), 0)

    def moved(self, original: Original, characters: int, added: SectionAdded | None) -> None:
        self._waiting = False
        task, chunks = self._each[original.source]
        if added is not None:
            chunks += added.chunks
            self._chunks, self._tokens = self._chunks + added.chunks, self._tokens + added.tokens
        self._each[original.source] = (task, chunks)
        self._bars.update(task, advance=characters, said=f"{chunks} chunks")
        rate = self._tokens / max(0.001, time.monotonic() - self._began)
        self._bars.update(self._all, said=f"{self._chunks} chunks, {rate:,.0f} tokens/s")

    def ended(self, outcome: Outcome) -> None:
        if bar := self._each.pop(outcome.original.source, None):
            self._bars.remove_task(bar[0])
        self._bars.advance(self._all)
        if outcome.state in ("added", "refused") and not as_json():
            self._bars.console.print(_line(outcome), soft_wrap=True)

    def waits(self, error: Unreachable) -> None:
        if not self._waiting and not as_json():
            self._bars.console.print(plain(f"… {error.what} Waiting for it. {error.why}", "yellow"), soft_wrap=True)
        self._waiting = True


def _line(each: Outcome) -> Text:
    if each.state == "added":
        what = plain(f": {each.added} {'chunk' if each.added == 1 else 'chunks'} added{_before(each)}", "dim")
        return plain("✓ ", "green") + plain(each.original.source) + what
    hint = f" · {each.hint}" if each.hint else ""
    return plain("✗ ", "red") + plain(each.original.source) + plain(f": {each.why}{hint}", "dim")


def _before(each: Outcome) -> str:
    """What became of the chunks that it had before."""
    return f", {each.kept} kept, {each.removed} removed" if each.kept or each.removed else ""
