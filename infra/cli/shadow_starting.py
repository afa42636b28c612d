"""What `milepost shadow start` is asked for becomes a shadow: the candidate is read and checked before anything begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from infra.cli.shadow_asking import BadShadow, change, the_shadow

if TYPE_CHECKING:
    from infra.shadow.shadow import Candidate
    from infra.wiring import World
    from runtime.client import Client

LIMIT = 600 * 1024
_FORM = "--swap llm=MODEL|SCRIPT, policy=FILE, or tool=NAME with --from FOLDER|SPEC"


async def started(
    client: Client, world: World, name: str, asked: tuple[str, str | None], wanted: dict[str, object]
) -> None:  # fmt: skip
    """Begin one. asked: the swap, and where its tool is; wanted: share, tokens_per_hour, since. Raises what is wrong."""
    from datetime import datetime

    from infra.cli.client import ask
    from infra.cli.run_query import moment
    from infra.shadow.shadow import Shadow
    from schemas.ids import checked_token

    swap, place = asked
    now, since = world.clock.now(), wanted.pop("since")
    candidate = await _candidate(client, world, swap, place)
    made = Shadow.model_validate({
        **wanted, "tenant": client.tenant, "name": checked_token(name, "shadow"), "candidate": candidate, "by": client.user,
        "said": swap + (f" --from {place}" if place else ""), "created": now,
        "since": moment(str(since), datetime.now().astimezone()) if since else now,
    })  # fmt: skip
    values = made.model_dump(mode="json", by_alias=True)
    if len(made.model_dump_json()) > LIMIT:
        raise BadShadow("The candidate is too large.", why=f"it has more than {LIMIT // 1024} KiB", hint="a shorter script")
    await ask(world, "recorder", "put_shadow", {"shadow": values})


async def resumed(client: Client, world: World, name: str) -> None:
    """Let one go on where it was. Raises BadShadow, UnknownShadow."""
    told = await the_shadow(client, world, name)
    if told.shadow.state not in ("stopped", "rolled back"):
        raise BadShadow(f"The shadow {name} is {told.shadow.state}.", hint=_FORM)
    await change(client, world, name, expected=told.shadow.state, state="running", trouble="")


async def _candidate(client: Client, world: World, swap: str, place: str | None) -> Candidate:
    """What is to be asked. Raises BadShadow, BadSwap, BadPolicyFile, UnknownModel, and what reading a source raises."""
    from infra.cohort.swap import swap_of
    from infra.models.catalogue import find
    from infra.models.remote import remotes
    from infra.shadow.shadow import Candidate

    kind, _, what = swap.partition("=")
    if kind not in ("llm", "policy", "tool") or not what or (kind == "tool") != (place is not None):
        raise BadShadow(f"{swap!r} is nothing that a shadow can be of.", hint=_FORM)
    if kind == "tool":
        return await _tool(client, world, what, str(place))
    made = swap_of([_from_anywhere(kind, what)])
    if made.llm is not None and made.script is None:
        home = world.settings.model.home
        if made.llm not in remotes(home):
            find(made.llm, home)  # raises UnknownModel now, rather than in the shadow's log
    return Candidate(swap=made)


def _from_anywhere(kind: str, what: str) -> str:
    """A swap that names its file by its whole path: it is promoted from another folder, too."""
    return f"{kind}={Path(what).resolve() if Path(what).is_file() else what}"


async def _tool(client: Client, world: World, name: str, place: str) -> Candidate:
    """The tool of a folder or an OpenAPI document that would stand in the place of the one that has its name now."""
    import asyncio

    from infra.cli.client import ask_list
    from infra.shadow.promoting import read_place, source_of
    from infra.shadow.shadow import Candidate
    from services.retrieval.catalogue_questions import KnownTool

    cards = await ask_list(world, "retrieval", "get_tools", {"tenant": client.tenant, "names": [name]})
    if not cards:
        raise BadShadow(f"There is no tool {name}.", why="nothing serves under that name", hint="milepost tools ls")
    lane = KnownTool.model_validate(cards[0]).card.lane
    live = await source_of(world, client.tenant, lane)
    source, specs = await asyncio.to_thread(read_place, client.tenant, client.user, place, lane, live)
    spec = next((each for each in specs if each.card.name == name), None)
    if spec is None:
        why = f"it has {', '.join(each.card.name for each in specs[:5])}"
        raise BadShadow(f"{place} has no tool {name}.", why=why, hint="a candidate has the name of what it replaces")
    return Candidate(source=source, spec=spec)
