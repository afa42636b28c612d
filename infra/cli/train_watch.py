"""What a person sees while a model is trained: one line that moves on a terminal, lines that stay elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from infra.cli.show import as_json, console, plain
from infra.cli.words import say
from infra.training.report import duration
from schemas.canonical import JsonObject

if TYPE_CHECKING:
    from rich.progress import Progress

SELDOM_S = 30.0  # between lines where nothing can move


@contextmanager
def watching() -> Iterator[Watch]:
    """Shows how a training goes on while the block runs; nothing with --json."""
    from rich.progress import BarColumn, Progress, TextColumn

    out = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[said]}", markup=False),
    )
    with Progress(*columns, console=out, disable=as_json() or not out.is_terminal, transient=True) as bars:
        yield Watch(bars)


class Watch:
    """Told of the trainer's events."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._lively = not bars.disable
        self._silent = as_json()
        self._task = bars.add_task(say("train starting"), total=None, said="")
        self._measured, self._told = "", 0.0
        self.step = 0

    def see(self, event: JsonObject) -> None:
        """One event."""
        match event.get("event"):
            case "begun" if resumed := _number(event.get("resumed_at")):
                self.step = int(resumed)
                self.line(say("train goes on", step=self.step))
            case "step":
                self._stepped(event)
            case "evaluated":
                best = say("train is best") if event.get("best") else ""
                loss = _number(event.get("loss"))
                self._measured = f" · {say('train dev loss')} {loss:.4f}"
                self.line(say("train measured", step=event.get("step"), loss=loss, best=best))

    def _stepped(self, event: JsonObject) -> None:
        self.step = int(_number(event.get("step")))
        total, eta = event.get("of"), event.get("eta")
        left = say("train eta", left=duration(_number(eta))) if eta is not None else ""
        said = say(
            "train step line", step=self.step, of=f"/{total}" if total else "", loss=_number(event.get("loss")),
            rate=_number(event.get("tokens_per_second")), eta=left,
        )  # fmt: skip
        if self._lively:
            bounded = total if isinstance(total, int) else None
            self._bars.update(self._task, description="", total=bounded, completed=self.step, said=said + self._measured)
        elif time.monotonic() - self._told > SELDOM_S:
            self._told = time.monotonic()
            self.line(said)

    def line(self, text: str) -> None:
        """Something that stays."""
        if not self._silent:
            self._bars.console.print(plain(text, "dim"), soft_wrap=True)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
