"""The door: open the console in a browser, and the keys that let people and programs in."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json
from infra.cli.words import say

if TYPE_CHECKING:
    from infra.postgres.door_keys import PostgresKeyStore
    from infra.settings import Settings
    from services.gateway.keys import DoorKey

T = TypeVar("T")


class RoleName(StrEnum):
    """What a key's holder may do."""

    viewer = "viewer"
    operator = "operator"
    approver = "approver"
    builder = "builder"
    admin = "admin"


door = typer.Typer(no_args_is_help=True, help="The HTTP door and the console: its address, and who may come in.")
keys = typer.Typer(no_args_is_help=True, help="API keys of people and programs.")


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("open")(open_)
    door.command()(url)
    door.command()(key)
    keys.command()(add)
    keys.command("ls")(list_)
    keys.command()(revoke)
    door.add_typer(keys, name="keys")
    app.add_typer(door, name="door")


def open_(
    print_only: Annotated[bool, typer.Option("--print", help="Print the link, and open nothing.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Open the console in a browser, signed in as yourself; the link is good for two minutes."""
    from datetime import UTC

    from infra.cli.options import settings_from
    from infra.gateway.door_secret import door_seed

    use_json(json)
    settings = settings_from(home).settings
    link = f"{_address(home)}/#link={door_seed(settings).sign('link', {}, datetime.now(UTC))}"
    opened = False if print_only or as_json() else typer.launch(link) == 0
    if as_json():
        print_json({"link": link})
    else:
        console().print(plain(say("door opened" if opened else "door link", link=link)), soft_wrap=True)


def url(home: Home = None, json: Json = False) -> None:
    """Print the door's address; OpenAI's clients take it with /v1 behind it."""
    use_json(json)
    address = _address(home)
    print_json({"url": address, "openai": f"{address}/v1"}) if as_json() else console().print(plain(address))


def key(home: Home = None, json: Json = False) -> None:
    """Print the local key: it is good where this data directory's door is, and lets in as an administrator."""
    from infra.cli.options import settings_from
    from infra.gateway.door_secret import door_seed

    use_json(json)
    text = door_seed(settings_from(home).settings).local_key
    print_json({"key": text}) if as_json() else console().print(plain(text), soft_wrap=True)


def add(
    name: Annotated[str, typer.Argument(help="What the key is for.", show_default=False)],
    role: Annotated[list[RoleName], typer.Option(help="What its holder may do; repeatable.")],
    user: Annotated[str | None, typer.Option(help="In whose name; your own if not given.", show_default=False)] = None,
    days: Annotated[int | None, typer.Option(min=1, help="How long it is good.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Make an API key and show it, once: only its hash is kept.

    viewer: read. operator: read and ask. approver: read and approve. builder: read, ask, and build agents, tools and
    triggers. admin: everything.
    """
    from datetime import timedelta

    from services.gateway.keys import new_key
    from services.gateway.principal import DOOR_ROLES

    use_json(json)
    store, settings, now = _store(home)
    named = {each.value for each in role}
    roles = tuple(each for each in DOOR_ROLES if each in named)
    kept, text = new_key(settings.tenant, name, user or settings.user, roles, now, now + timedelta(days=days) if days else None)
    _run(store.put(kept))
    if as_json():
        print_json({**_said(kept), "key": text})
        return
    console().print(plain(text), soft_wrap=True)
    console().print(plain(say("door key once", id=kept.id), "dim"))


def list_(home: Home = None, json: Json = False) -> None:
    """List the API keys of this tenant."""
    use_json(json)
    store, settings, _ = _store(home)
    found: list[DoorKey] = _run(store.keys(settings.tenant))
    if as_json():
        print_json([_said(each) for each in found])
        return
    if not found:
        console(stderr=True).print(plain(say("door no keys")))
        return
    rows = [
        (each.id, each.name, each.user, ", ".join(each.roles), f"{each.created:%Y-%m-%d}", _state(each))
        for each in found
    ]  # fmt: skip
    print_table(("id", "name", "user", "roles", "made", "state"), rows)


def revoke(
    id: Annotated[str, typer.Argument(help="Its id, from `door keys ls`.", show_default=False)],
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Let a key open nothing any more; doors notice within seconds."""
    from schemas.errors import MilepostError

    use_json(json)
    store, settings, now = _store(home)
    if not _run(store.revoke(settings.tenant, id, now)):
        raise MilepostError(f"There is no key {id} that could be revoked.", hint="milepost door keys ls")
    print_json({"id": id, "revoked": now.isoformat()}) if as_json() else console().print(plain(say("door key revoked", id=id)))


def _state(key: DoorKey) -> str:
    if key.revoked:
        return say("door key state revoked")
    return say("door key state until", date=f"{key.expires:%Y-%m-%d}") if key.expires else say("door key state good")


def _said(key: DoorKey) -> dict[str, object]:
    return key.model_dump(mode="json", exclude={"hash"})


def _address(home: Home) -> str:
    from infra import stack
    from infra.cli.options import settings_from
    from infra.gateway.address import remembered
    from schemas.errors import MilepostError

    settings = settings_from(home).settings
    if not settings.nats.url:
        stack.attach(settings.home)
    found = settings.door.public_url or remembered(settings.home)
    if found is None:
        raise MilepostError(
            "No door is open here.", why="no gateway has started in this data directory", hint="milepost status"
        )
    return found.rstrip("/")


def _run(work: Coroutine[None, None, T]) -> T:
    import asyncio

    return asyncio.run(work)


def _store(home: Home) -> tuple[PostgresKeyStore, Settings, datetime]:
    from datetime import UTC

    from infra.cli.options import settings_from
    from infra.local_stack import attached
    from infra.postgres.door_keys import PostgresKeyStore
    from infra.wiring import open_engine

    settings = attached(settings_from(home).settings)
    return PostgresKeyStore(open_engine(settings)), settings, datetime.now(UTC)
