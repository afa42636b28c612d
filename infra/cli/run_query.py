"""Choosing runs at a terminal: its options, and reading what matches page by page. The words are runtime.run_query's."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.run_query import NAMES, BadQuery, filter_of, moment

if TYPE_CHECKING:
    from infra.wiring import World
    from schemas.runs import RunFilter, RunSummary

__all__ = ["NAMES", "PAGE", "BadQuery", "filter_of", "matching", "moment"]

PAGE = 50

Query = Annotated[
    list[str] | None,
    typer.Argument(metavar="[QUERY]...", help="Words as agent:ops status:failed since:7d; others stand in task or answer.",
                   show_default=False),
]  # fmt: skip
StatusOption = Annotated[list[str] | None, typer.Option("--status", help="This status; again for more.", show_default=False)]
AgentOption = Annotated[str | None, typer.Option("--agent", help="Runs of this agent.", show_default=False)]
UserOption = Annotated[str | None, typer.Option("--user", help="Runs of this user.", show_default=False)]
ToolOption = Annotated[str | None, typer.Option("--tool", help="Runs that called this tool.", show_default=False)]
ModelOption = Annotated[str | None, typer.Option("--model", help="Runs that asked this model.", show_default=False)]
ConversationOption = Annotated[str | None, typer.Option("--conversation", help="Of this conversation.", show_default=False)]
TextOption = Annotated[str | None, typer.Option("--text", help="Stands in the task or the answer.", show_default=False)]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Begun then or later: 2026-11-20, 08:30, 2h, 7d.", show_default=False)
]
UntilOption = Annotated[
    str | None, typer.Option("--until", help="Begun before then; a date alone is the end of that day.", show_default=False)
]
TokensOver = Annotated[
    str | None, typer.Option("--tokens-over", help="More tokens than that.", metavar="N", show_default=False)
]
CostOver = Annotated[
    str | None, typer.Option("--cost-over", help="Its writes cost more than that.", metavar="N", show_default=False)
]
Forks = Annotated[bool | None, typer.Option("--forks/--no-forks", help="Only forks, or none.", show_default=False)]
ForkOf = Annotated[
    str | None, typer.Option("--fork-of", help="Forks of this run, or of the one whose id begins so.", show_default=False)
]


async def matching(world: World, which: RunFilter, limit: int | None = None) -> AsyncIterator[RunSummary]:
    """The runs of this tenant that match, newest first, page by page; limit: so many at most.

    Raises Unreachable, and for a fork_of that names no run what find_run raises.
    """
    from infra.cli.client import ask_list, find_run
    from schemas.runs import Place, RunSummary

    if which.fork_of is not None:
        which = which.model_copy(update={"fork_of": await find_run(world, which.fork_of)})
    asked: dict[str, object] = {"which": which.model_copy(update={"tenant": world.settings.tenant}).model_dump(mode="json")}
    left = math.inf if limit is None else limit
    while left > 0:
        count = int(min(PAGE, left))
        page = [RunSummary.model_validate(each) for each in await ask_list(world, "recorder", "runs", asked | {"limit": count})]
        for each in page:
            yield each
        if len(page) < count:
            return
        left -= count
        asked["after"] = Place(started=page[-1].started, run=page[-1].run).model_dump(mode="json")
