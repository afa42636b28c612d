"""`impact`: which runs and answers used a passage, a document, a tool or a model."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, question_of
from infra.cli.show import as_json, console, local, outcome, plain, print_json, print_table, use_json

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client
    from services.recorder.ports import Kind, Use, Used

_ORDER: tuple[Kind, ...] = ("document", "chunk", "tool", "model")

What = Annotated[
    str,
    typer.Argument(
        metavar="CHUNK|DOC|TOOL|MODEL", show_default=False,
        help="The hash of a chunk, the id, path or address of a document, the name or hash of a tool or model; "
        "of ids and hashes the first six characters will do.",
    ),
]  # fmt: skip
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="How many uses, of the newest runs.")]


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(impact)


def impact(what: What, limit: Limit = 200, home: Home = None, json: Json = False) -> None:
    """List the runs, and their answers, that used a chunk, a document, a tool or a model."""
    from infra.cli.client import ask_list, connected
    from services.recorder.ports import Used

    use_json(json)
    what = question_of(what, "milepost impact RenewInstance")
    names = list(dict.fromkeys((what, str(Path(what).resolve()))))

    async def work(client: Client, world: World) -> list[Used]:
        asked = {"tenant": client.tenant, "names": names, "limit": limit}
        return [Used.model_validate(each) for each in await ask_list(world, "recorder", "uses", asked)]

    found = connected(work, home)
    if as_json():
        print_json([_row(each) for each in found])
        return
    if not found:
        console(stderr=True).print(
            plain(f"no run used {what} · milepost knowledge ls, tools ls and models ls tell what there is")
        )
        return
    things = sorted({(each.use.kind, each.use.id) for each in found}, key=lambda thing: (_ORDER.index(thing[0]), thing[1]))
    for kind, id in things:
        _print_thing([each for each in found if (each.use.kind, each.use.id) == (kind, id)])
    if len(found) == limit:
        console(stderr=True).print(plain(f"these are the newest {limit} · --limit", "dim"))


def _row(each: Used) -> dict[str, object]:
    run = each.run.model_dump(mode="json", include={"run", "status", "agent", "user", "conversation", "task", "answer"})
    return each.use.model_dump(mode="json", exclude={"tenant"}) | run


def _print_thing(used: list[Used]) -> None:
    """A thing, then a line for each run that used it."""
    from infra.cli.client import short_id
    from runtime.timeline import short

    out = console()
    use, runs = used[0].use, len({each.use.run for each in used})
    head = plain(f"{use.kind} ", "dim") + plain(use.id, "bold") + plain(f" {use.name}" if use.name else "")
    out.print(head + plain(f"  used by {runs} run{'s' * (runs > 1)}", "dim"), soft_wrap=True)
    rows = []
    for run, group in groupby(used, key=lambda each: each.run):
        uses = [each.use for each in group]
        name = short_id(run.run) if out.is_terminal else run.run
        said = f"{short(run.task, 200)} → {short(run.answer, 200)}" if run.answer else short(run.task, 200)
        when = local(uses[0].time)
        rows.append((name, when[5:16] if out.is_terminal else when, run.user, outcome(run.status), _how(uses), said))
    print_table(("run", "when", "user", "outcome", "how", "task → answer"), rows)
    out.print()


def _how(uses: list[Use]) -> str:
    """What was done with it, and which version of it that was."""
    hashes = dict.fromkeys(use.hash[:8] for use in uses if use.kind in ("tool", "model") and use.hash)
    details = dict.fromkeys(use.detail for use in uses if use.detail)
    return ", ".join([*dict.fromkeys(use.how for use in uses), *details, *(f"hash {digest}" for digest in hashes)])
