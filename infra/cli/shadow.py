"""Shadows: a candidate that gets a copy of live traffic, what it would have done, and putting it in place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, settings_from
from infra.cli.shadow_asking import BadShadow, change, expect, opened_all, shadows, summed, the_shadow
from infra.cli.show import as_json, console, plain, print_json, use_json
from infra.cli.words import say

if TYPE_CHECKING:
    from infra.cohort.driving import Result
    from infra.cohort.summary import Summary
    from infra.shadow.shadow import Compared, Shadow, Told
    from infra.wiring import World
    from runtime.client import Client

shadow = typer.Typer(no_args_is_help=True, help="Let a candidate see live traffic, compare it, and put it in place.")

BELOW = 5

Name = Annotated[str, typer.Argument(help="The shadow's name.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="All the same; --reason says why.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.", show_default=False)]
Swap = Annotated[
    str | None, typer.Option("--swap", help="llm=MODEL|SCRIPT, policy=FILE or tool=NAME.", metavar="WHAT", show_default=False)
]
Place = Annotated[
    str | None,
    typer.Option("--from", help="The tool's candidate: a folder, or an OpenAPI document.", metavar="PLACE", show_default=False),
]
Tokens = Annotated[int | None, typer.Option("--tokens-per-hour", min=1, help="That its model may take.", show_default=False)]
Since = Annotated[str | None, typer.Option(help="From then on: 2h, 08:30, 2026-11-20; now without.", show_default=False)]
Least = Annotated[str, typer.Option("--min", help="What it must have reached.", metavar="NAME=LEAST,...")]
Html = Annotated[Path | None, typer.Option("--html", help="Write a report with plots.", show_default=False)]
Show = Annotated[int, typer.Option("--show", min=0, help="How many of the differences to show.")]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (start, show, stop, promote, rollback, run):
        shadow.command()(command)
    shadow.command("ls")(list_)
    shadow.command("rm")(remove)
    app.add_typer(shadow, name="shadow")


def start(
    name: Name,
    swap: Swap = None, place: Place = None,
    share: Annotated[float, typer.Option(help="Of the runs that it sees, above 0 and up to 1.")] = 1.0,
    tokens: Tokens = None, since: Since = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Let a candidate see live traffic from now on; or one go on that was stopped, without --swap.

    It stands in nobody's way: it reads the log, has no credentials and no right to write, and only tells what it would do.
    """
    from infra.cli.client import connected
    from infra.cli.shadow_starting import resumed, started

    use_json(json)
    if not 0 < share <= 1:
        raise BadShadow(f"A share of {share} is none.", hint="--share 0.1 for a tenth of the runs")
    if swap is None:
        connected(lambda client, world: resumed(client, world, name), home)
    else:
        wanted: dict[str, object] = {"share": share, "tokens_per_hour": tokens, "since": since}
        connected(lambda client, world: started(client, world, name, (swap, place), wanted), home)
    if as_json():
        print_json({"name": name, "state": "running"})
    else:
        console().print(plain("✓ ", "green") + plain(say("shadow started", name=name)))


def list_(home: Home = None, json: Json = False) -> None:
    """List shadows: what they are of, how much they differ, how far they are behind the log."""
    from infra.cli.client import connected
    from infra.cli.shadow_shown import print_list

    use_json(json)

    async def work(client: Client, world: World) -> list[tuple[Told, int | None]]:
        from infra.shadow.lag import lag

        found = await shadows(client, world)
        return [(told, await lag(world.connection, told.shadow.group)) for told in found]

    print_list(connected(work, home))


def show(name: Name, html: Html = None, count: Show = 10, home: Home = None, json: Json = False) -> None:
    """Show what a shadow came to: agreement with its interval, tokens, time, and the riskiest differences first."""
    from infra.cli.client import connected
    from infra.cli.shadow_shown import print_one, write_html
    from infra.cohort.report import MOST
    from infra.shadow.summary import as_data, skipped

    use_json(json)
    most = max(count, MOST if html else 0)

    async def work(client: Client, world: World) -> tuple[Told, int | None, list[Compared], Summary, list[Result]]:
        from infra.shadow.lag import lag

        told = await the_shadow(client, world, name)
        found, made = await summed(client, world, told.shadow)
        shown = await opened_all(world, found, made.changed[:most])
        return told, await lag(world.connection, told.shadow.group), found, made, shown

    told, behind, found, made, shown = connected(work, home)
    if html is not None:
        write_html(html, made, shown)
    if as_json():
        print_json({**as_data(told.shadow, made, shown[:count], skipped(found)), "behind": behind})
        return
    print_one(told, behind, made, shown[:count], skipped(found))
    if html is not None:
        console().print(plain(say("cohort report", file=html), "dim"))


def stop(name: Name, home: Home = None, json: Json = False) -> None:
    """Stop a shadow; what it came to stays, and `start NAME` lets it go on where it was."""
    from infra.cli.client import connected

    use_json(json)

    async def work(client: Client, world: World) -> None:
        await expect(client, world, name, ("running",))
        await change(client, world, name, expected="running", state="stopped", trouble="")

    connected(work, home)
    _done("shadow stopped now", {"name": name, "state": "stopped"})


def remove(name: Name, home: Home = None, json: Json = False) -> None:
    """Forget a shadow with all that it came to."""
    from infra.cli.client import ask, connected

    use_json(json)

    async def work(client: Client, world: World) -> None:
        from infra.shadow.lag import forget_group

        told = await expect(client, world, name, ("stopped", "promoted", "rolled back"))
        await ask(world, "recorder", "drop_shadow", {"tenant": client.tenant, "name": name})
        await forget_group(world.connection, told.shadow.group)

    connected(work, home)
    _done("shadow removed", {"name": name})


def run(name: Name, home: Home = None) -> None:
    """Be a shadow's process, with nothing but what it may know; for machines without a stack of their own."""
    from infra.cli.client import connected
    from infra.local_stack import attached
    from infra.shadow.keeping import become

    settings = attached(settings_from(home).settings)
    told = connected(lambda client, world: the_shadow(client, world, name), home)
    become(settings, told.shadow)


def promote(
    name: Name, least: Least = "agreement=0.95", yes: Yes = False, reason: Reason = "", home: Home = None, json: Json = False
) -> None:
    """Put a candidate in the place of what serves now, and remember what that was. Exit code 5: it is not good enough."""
    from infra.cli.client import connected
    from infra.cohort.summary import below, gates_of
    from infra.shadow.promoting import put

    use_json(json)
    _check_reason(yes, reason)
    gates = gates_of(least)

    async def work(client: Client, world: World) -> tuple[list[str], Shadow | None]:
        told = await expect(client, world, name, ("running", "stopped", "rolled back"))
        lacking = below((await summed(client, world, told.shadow))[1], gates)
        if lacking and not yes:
            return lacking, None
        before = await put(client, world, told.shadow, reason)
        values = {"before": before, "promoted": world.clock.now().isoformat(), "note": reason or told.shadow.note}
        await change(client, world, name, state="promoted", trouble="", **values)
        return lacking, (await the_shadow(client, world, name)).shadow

    lacking, promoted = connected(work, home)
    if promoted is None:
        if as_json():
            print_json({"name": name, "promoted": False, "lacking": lacking})
        else:
            text = say("cohort below", what="; ".join(lacking)) + "\n" + say("shadow anyway", name=name)
            console(stderr=True).print(plain(text, "bold red"))
        raise typer.Exit(BELOW)
    _done("shadow promoted now", {"name": name, "promoted": True, "lacking": lacking, "before": promoted.before})
    _tell_restart(promoted)


def rollback(name: Name, yes: Yes = False, reason: Reason = "", home: Home = None, json: Json = False) -> None:
    """Put back what served before a candidate was promoted."""
    from infra.cli.client import connected
    from infra.shadow.promoting import take_out

    use_json(json)
    _check_reason(yes, reason)

    async def work(client: Client, world: World) -> Shadow:
        told = await expect(client, world, name, ("promoted",))
        await take_out(client, world, told.shadow, reason, anyway=yes)
        note = reason or told.shadow.note
        await change(client, world, name, expected="promoted", state="rolled back", note=note)
        return told.shadow

    back = connected(work, home)
    _done("shadow rolled back now", {"name": name, "state": "rolled back"})
    _tell_restart(back)


# --- what is said afterwards -------------------------------------------------------------------------


def _check_reason(yes: bool, reason: str) -> None:
    if yes and not reason.strip():
        raise BadShadow("--yes needs a reason.", why="the record says why it was done all the same", hint='--reason "..."')


def _tell_restart(of: Shadow) -> None:
    if of.candidate.kind == "llm" and not as_json():
        console().print(plain(say("shadow restart"), "yellow"))


def _done(key: str, values: dict[str, object]) -> None:
    if as_json():
        print_json(values)
    else:
        console().print(plain("✓ ", "green") + plain(say(key, name=values["name"])))
