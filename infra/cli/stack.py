"""Start, stop and look at the stack of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, NatsUrl, PostgresUrl, settings_from
from infra.cli.show import as_json, console, plain, print_json, use_json
from infra.cli.words import say

if TYPE_CHECKING:
    from infra.settings import Loaded
    from infra.stack import Stack


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (up, down, status, config, service):
        app.command()(command)


def up(
    home: Home = None, nats: NatsUrl = None, postgres: PostgresUrl = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background.")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", hidden=True)] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Start bus, database and every service on this machine."""
    import asyncio

    use_json(json)
    loaded = settings_from(home, nats, postgres)
    _door_is_free(loaded)
    if detach:
        from infra.local_stack import start_detached

        fetch_models(loaded)
        _say_up(asyncio.run(start_detached(loaded)))
        return
    from infra import logs
    from infra.local_stack import plan
    from infra.supervisor import up as run

    if not foreground:
        fetch_models(loaded)
    logs.configure("supervisor", level="warning" if not foreground else loaded.settings.log_level)
    asyncio.run(run(plan(loaded), report=lambda line: console(stderr=True).print(line), ready=_say_up))


def _door_is_free(loaded: Loaded) -> None:
    """Say at once that the door's port is taken, before anything is started. Raises DoorClosed."""
    from infra import stack as stacks

    settings = loaded.settings
    running = (found := stacks.read(settings.home)) is not None and found.running()
    if settings.services.gateway and settings.door.port and not running:
        from infra.gateway.serving import listen

        listen(settings.door).close()


def _say_up(stack: Stack) -> None:
    door = _door(stack)
    if as_json():
        members = [member.label for member in stack.members]
        print_json({"ready": stack.ready, "home": str(stack.home), "members": members, "door": door})
        return
    out = console()
    out.print(f"[green]Milepost is up[/green] in {stack.home}: {', '.join(member.label for member in stack.members)}")
    for warning in stack.warnings:
        out.print(f"[yellow]{warning}[/yellow]")
    if door:
        out.print(plain(say("up door", url=door)))
    out.print('Try: [bold]milepost ask "What time is it in Shanghai?"[/bold] · milepost status · milepost down')


def _door(stack: Stack) -> str | None:
    """Where the stack's door is; None without one."""
    from infra.gateway.address import remembered

    return remembered(stack.home) if stack.member("gateway") else None


def down(home: Home = None, json: Json = False) -> None:
    """Stop the stack of this data directory."""
    import asyncio

    from infra import stack as stacks

    use_json(json)
    stopped = asyncio.run(stacks.down(settings_from(home).settings.home))
    print_json({"stopped": stopped}) if as_json() else console().print("stopped" if stopped else "nothing was running")


def status(home: Home = None, json: Json = False) -> None:
    """Show every process of the stack, alive or not, with its memory."""
    from infra import stack as stacks

    use_json(json)
    found = stacks.status(settings_from(home).settings.home)
    rows = [
        {
            "name": each.member.label, "pid": each.member.pid, "state": each.member.state if each.alive else "dead",
            "restarts": each.member.restarts, "memory_mb": round((each.memory or 0) / 1e6, 1), "why": each.member.why,
        }
        for each in found.processes
    ]  # fmt: skip
    if as_json():
        memory_mb = round(found.memory / 1e6, 1)
        told = {"running": found.running, "memory_mb": memory_mb, "processes": rows, "warnings": found.stack.warnings}
        print_json({**told, "door": _door(found.stack)})
    else:
        _status_table(rows, found.memory)
        if door := _door(found.stack):
            console().print(plain(say("status door", url=door)))
        for warning in found.stack.warnings:
            console().print(f"[yellow]{warning}[/yellow]")
    if not found.running or any(row["state"] == "dead" for row in rows):
        raise typer.Exit(1)


def _status_table(rows: list[dict[str, object]], memory: int) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "state", "pid", "restarts", "MB", ""):
        table.add_column(column, justify="right" if column in ("pid", "restarts", "MB") else "left")
    for row in rows:
        colour = {"ready": "green", "dead": "red", "failing": "red"}.get(str(row["state"]), "yellow")
        state = f"[{colour}]{row['state']}[/{colour}]"
        table.add_row(str(row["name"]), state, *(str(row[key]) for key in ("pid", "restarts", "memory_mb", "why")))
    out = console()
    out.print(table)
    out.print(f"memory of all, shared pages counted once: {memory / 1e6:.0f} MB")


def config(home: Home = None, json: Json = False) -> None:
    """Print every setting, its value and who set it; secrets are masked."""
    use_json(json)
    loaded = settings_from(home)
    rows = [(key, value, str(origin)) for key, value, origin in loaded.rows()]
    if as_json():
        print_json({key: {"value": value, "origin": origin} for key, value, origin in rows})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("setting", "value", "from"):
        table.add_column(column)
    for key, value, origin in rows:
        table.add_row(key, "" if value is None else str(value), origin)
    console().print(table)


def service(name: str, copy: int = 1, home: Home = None, nats: NatsUrl = None, postgres: PostgresUrl = None) -> None:
    """Be one service in this process, of the stack here or of the servers named."""
    import os

    from infra.local_stack import attached
    from infra.settings import Loaded, Origin
    from infra.wiring import run_service

    loaded = settings_from(home, nats, postgres)
    settings = attached(loaded.settings)
    origins = {**loaded.origins, "nats.url": Origin("flag"), "nats.monitor": Origin("flag"), "postgres.url": Origin("flag")}
    os.environ.update(Loaded(settings, origins, loaded.file).environment())
    run_service(name, copy)


def fetch_models(loaded: Loaded) -> None:
    """Have the language model and the embedder on disk and built, with a progress bar; nothing for a scripted stack."""
    from infra.cli.models import fetch_all

    if loaded.settings.model.scripted is None:
        fetch_all(loaded.settings)
