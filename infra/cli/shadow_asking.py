"""Shadows as the recorder tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.cohort.driving import Result
    from infra.cohort.summary import Summary
    from infra.shadow.shadow import Compared, Shadow, State, Told
    from infra.wiring import World
    from runtime.client import Client


class BadShadow(MilepostError):
    """What is asked for is no shadow, or not at this time."""


async def shadows(client: Client, world: World, name: str | None = None) -> list[Told]:
    """Those of the tenant, or the one of a name. Raises UnknownShadow."""
    from infra.cli.client import ask_list
    from infra.shadow.shadow import Told

    found = await ask_list(world, "recorder", "shadows", {"tenant": client.tenant, "name": name})
    return [Told.model_validate(each) for each in found]


async def the_shadow(client: Client, world: World, name: str) -> Told:
    """The one of a name. Raises UnknownShadow."""
    return (await shadows(client, world, name))[0]


async def expect(client: Client, world: World, name: str, states: Sequence[State]) -> Told:
    """The one of a name, if it is in one of these states. Raises BadShadow, UnknownShadow."""
    told = await the_shadow(client, world, name)
    if told.shadow.state not in states:
        raise BadShadow(
            f"The shadow {name} is {told.shadow.state}.", why=f"this is for one that is {' or '.join(states)}",
            hint=f"milepost shadow show {name}",
        )  # fmt: skip
    return told


async def change(client: Client, world: World, name: str, **values: object) -> None:
    """Change what is known of one. Raises UnknownShadow."""
    from infra.cli.client import ask

    await ask(world, "recorder", "change_shadow", {"tenant": client.tenant, "name": name, **values})


async def summed(client: Client, world: World, of: Shadow) -> tuple[list[Compared], Summary]:
    """All that it came to, page by page, and what that adds up to."""
    from infra.cli.client import ask_list
    from infra.shadow.shadow import Compared
    from infra.shadow.summary import summary

    found: list[Compared] = []
    while True:
        after = {"run": found[-1].run, "event": found[-1].event} if found else {}
        asked = {"tenant": client.tenant, "name": of.name, **after}
        page = [Compared.model_validate(each) for each in await ask_list(world, "recorder", "shadow_results", asked)]
        if not page:
            return found, summary(of, found)
        found.extend(page)


async def opened_all(world: World, found: Sequence[Compared], chosen: Sequence[Result]) -> list[Result]:
    """The chosen ones with what they quote, opened with the keys that are left."""
    from infra.cohort.driving import opened
    from infra.shadow.summary import placed
    from runtime.errors import Unreachable
    from runtime.permalink import permalink
    from runtime.sealing import UnknownKey, run_key
    from schemas.ids import RunId

    known, shown = {permalink(each.run, each.event): each for each in found}, []
    for each in (known[result.run] for result in chosen):
        result, secret = each.result, None
        if result.sealed is not None and result.datakey is not None:
            try:
                secret = (await world.keyring.key(result.tenant, result.datakey)).secret
            except (UnknownKey, Unreachable):
                secret = None
        whole = opened(result, run_key(secret, RunId(each.run)) if secret else None)
        shown.append(placed(each.model_copy(update={"result": whole})))
    return shown
