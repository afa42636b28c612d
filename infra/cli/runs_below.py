"""The runs below a run: those of agents that it asked, and of agents that these asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from infra.cli.client import short_id
from infra.cli.show import outcome, plain
from runtime.children import all_children
from runtime.fold import fold
from runtime.log import Log, Stored
from runtime.state import RunState
from runtime.timeline import short

WIDTH = 200


@dataclass(frozen=True, slots=True)
class Below:
    """A run below another. depth: 1 for those that it asked itself."""

    state: RunState
    depth: int


async def runs_below(journal: Log, state: RunState, facts: Sequence[Stored], depth: int = 1) -> list[Below]:
    """All of them as the logs tell, each before those that it asked. No index is needed: their names follow from the calls."""
    found: list[Below] = []
    for run in all_children(state, facts):
        told = await journal.read(run)
        if not told:
            continue  # the call was refused before it began one
        below = fold(run, told).state
        found.extend((Below(below, depth), *await runs_below(journal, below, told, depth + 1)))
    return found


def line_of(below: Below) -> Text:
    """A run below on one line."""
    state = below.state
    request = state.request
    head = plain(f"{'   ' * (below.depth - 1)}└─ ", "dim") + plain(short_id(state.run)) + plain("  ")
    said = plain(f"  {request.agent.name}: {short(request.task, WIDTH)}" if request else "")
    return head + outcome("erased" if state.erased else state.outcome) + said
