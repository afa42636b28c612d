"""Forget a person: ask, let the stack do it, and report what was done and what is out of reach."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, at_terminal, console, local, plain, print_json, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client

LOOK_S = 0.3
OUT_OF_REACH = (
    "backups, and what database files and their write-ahead log hold until it is overwritten",
    "files that `runs export` wrote, also those in the folder imported/: each holds the key of its run",
    "what went to others: remote models, tools and the cloud that they changed, and notes of your own",
    "what another user's run quotes of theirs",
)


class StillForgetting(MilepostError):
    """It was recorded and goes on by itself, but has not ended within the time that was given."""


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(forget)


def forget(
    user: Annotated[str, typer.Option(help="Whom.", show_default=False)],
    tenant: Annotated[str | None, typer.Option(help="Of which tenant; yours if not given.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the end; it goes on by itself after that.")] = 120.0,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Forget a user: end their runs, destroy the key that their content is sealed under, remove what was derived from it."""
    from infra.cli.client import connected
    from schemas.ids import checked_token

    use_json(json)
    tenant = checked_token(tenant or settings_from(home).settings.tenant, "tenant")
    _confirm(checked_token(user, "user"), tenant, yes)
    _show(connected(lambda client, world: _forgotten(client, world, tenant, user, wait), home))


def _confirm(user: str, tenant: str, yes: bool) -> None:
    if yes:
        return
    if not at_terminal():
        raise MilepostError(
            f"Forgetting {user} cannot be taken back.",
            why="nobody is here to be asked",
            hint=f"milepost forget --user {user} --yes",
        )
    typer.confirm(f"Forget {user} of tenant {tenant}? Their runs end, and nobody can read what they said again", abort=True)


async def _forgotten(client: Client, world: World, tenant: str, user: str, wait: float) -> dict[str, object]:
    import asyncio

    from infra.cli.client import ask

    asked = await ask(world, "memory", "forget", {"tenant": tenant, "user": user, "by": client.user})
    id = str(_field(asked, "id"))
    said: object = {}
    try:
        async with asyncio.timeout(wait):
            while True:
                said = await ask(world, "memory", "forgetting", {"tenant": tenant, "id": id})
                if _field(said, "finished"):
                    return {**_object(said), "tenant": tenant, "out_of_reach": list(OUT_OF_REACH)}
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        why = _field(_field(said, "report"), "waiting_for") or f"it took longer than {wait:g} s"
        raise StillForgetting(
            f"{user} is not forgotten yet; it goes on by itself.", why=str(why),
            hint=f"milepost forget --user {user} --yes tells how far it is",
        ) from error  # fmt: skip


def _show(said: dict[str, object]) -> None:
    if as_json():
        print_json(said)
        return
    report, out = _object(said["report"]), console()
    when = local(datetime.fromisoformat(str(said["finished"])))
    out.print(plain("forgotten  ", "green") + plain(f"{said['id']}, asked for by {said['by']}, {when}"))
    for name, line in _lines(report).items():
        out.print(plain(f"{name:<11}", "dim") + plain(line))
    if report.get("unsealed"):
        out.print(plain(
            f"{report['unsealed']} runs were recorded before sealing was on: the log keeps them in the clear", "red"
        ))  # fmt: skip
    out.print(plain("Out of reach, and yours to see to:", "yellow"))
    for each in OUT_OF_REACH:
        out.print(plain(f"- {each}"))


def _lines(report: dict[str, object]) -> dict[str, str]:
    """What was done where; a service of another version may count less."""
    memory = _object(report.get("memory") or {})
    counts = {name: report.get(name, 0) for name in ("cancelled", "keys", "runs", "events", "uses", "effects", "policy")}
    if not any((*counts.values(), *memory.values())):
        return {"nothing": "no run, memory or key was found: the name is unknown, or was forgotten before"}
    return {
        "runs": f"{counts['cancelled']} were open and were ended",
        "log": f"data keys destroyed: {counts['keys']}; what they sealed cannot be read any more",
        "index": f"texts of {counts['runs']} runs and {counts['events']} events removed, and {counts['uses']} uses of things",
        "effects": f"{counts['effects']} lost arguments and receipt; their keys stay, so that none repeats",
        "rules": f"{counts['policy']} standing approvals and rights that named the person",
        "memory": f"{', '.join(f'{count} {name}' for name, count in memory.items()) or 'nothing'} removed",
        "caches": "keys, folded runs and prompts were dropped from every process",
    }


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise MilepostError("The memory service answered with no report.", why=json.dumps(value)[:200], hint="milepost doctor")
    return value


def _field(value: object, name: str) -> object:
    return _object(value).get(name)
