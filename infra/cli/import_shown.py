"""What a person sees of an import: how far it is, what it would bring, what has become of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from infra.cli.show import as_json, console, plain, print_json, print_table

if TYPE_CHECKING:
    from schemas.tools import Effect, Refusal, ToolCard
    from services.tools.sources import Source

SHOWN = 10


@dataclass(slots=True)
class Outcome:
    """What became of an import so far. new: tools that the source did not have; changed: cards that are new or other ones in
    the catalogue; waiting: cards without a vector; hosted: whether calls of the lane are answered."""

    cards: int
    done: int = 0
    new: int = 0
    changed: int = 0
    refused: list[Refusal] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    waiting: int = 0
    hosted: bool = False
    seconds: float = 0.0

    @property
    def unchanged(self) -> int:
        return self.done - self.changed - len(self.refused)


class Advance(Protocol):
    """Says how far it is."""

    def __call__(self, done: int) -> None: ...


@contextmanager
def says(what: str) -> Iterator[None]:
    """A word about what goes on, on a terminal."""
    out = console(stderr=True)
    if as_json() or not out.is_terminal:
        yield
        return
    with out.status(plain(what)):
        yield


@contextmanager
def bar(what: str, total: int) -> Iterator[Advance]:
    """A progress bar on a terminal, nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    out = console(stderr=True)
    shown = not as_json() and out.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, disable=not shown, transient=True) as progress:
        task = progress.add_task(what, total=total)

        def advance(done: int) -> None:
            progress.update(task, completed=done)

        yield advance


def preview(cards: Sequence[ToolCard], groups: Sequence[str]) -> None:
    """How many tools there would be, by group and effect."""
    counts: dict[str, Counter[Effect]] = {}
    for card, group in zip(cards, groups, strict=True):
        counts.setdefault(group or "-", Counter())[card.effect] += 1
    if as_json():
        print_json({"tools": len(cards), "groups": counts})
        return
    counts["all"] = sum(counts.values(), Counter())
    effects: tuple[Effect, ...] = ("read", "write", "destructive")
    rows = [(group, f"{count.total():,}", *(f"{count[effect]:,}" for effect in effects)) for group, count in counts.items()]
    print_table(("of", "tools", *effects), rows, right=("tools", *effects))
    console().print(plain("nothing was imported (--dry-run)", "dim"))


def summary(source: Source, outcome: Outcome) -> None:
    """What is new, what is gone, what was refused, and whether anybody answers."""
    if as_json():
        print_json({
            "tools": outcome.cards, "new": outcome.new, "changed": outcome.changed, "unchanged": outcome.unchanged,
            "gone": outcome.gone, "lane": source.lane, "refused": [each.model_dump() for each in outcome.refused],
            "without_vector": outcome.waiting, "hosted": outcome.hosted, "seconds": round(outcome.seconds, 3),
        })  # fmt: skip
        return
    out = console()
    parts = [f"{outcome.changed:,} new or changed", f"{outcome.unchanged:,} as before"]
    parts += [f"{len(outcome.gone):,} gone"] if outcome.gone else []
    parts += [f"{len(outcome.refused):,} refused"]
    out.print(plain(f"{outcome.cards:,} tools of {source.lane}: {', '.join(parts)} ({outcome.seconds:.1f} s)"))
    for refusal in outcome.refused[:SHOWN]:
        out.print(plain(f"  refused {refusal.tool}: {refusal.what} {refusal.why}", "yellow"))
    if len(outcome.refused) > SHOWN:
        out.print(plain(f"  and {len(outcome.refused) - SHOWN:,} more; --json lists them all", "yellow"))
    if outcome.waiting:
        later = f"{outcome.waiting:,} are still to be read for their meaning, and rank low until then"
        out.print(plain(f"found by their words now; {later}", "dim"))
    if outcome.hosted:
        out.print(plain(f"agents are offered them from now on; milepost tools ls --lane {source.lane}", "dim"))
    else:
        out.print(plain(f"nobody answers {source.lane} yet, so agents are not offered them: milepost status", "yellow"))
