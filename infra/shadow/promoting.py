"""A candidate is put in the place of what served until now, and taken out again: each remembers what was there before."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from infra.cli.client import ask
from infra.settings import FILE, Loaded, find_file, load, variable
from infra.shadow.shadow import Candidate, Shadow
from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from services.llm.models import DEFAULT

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client
    from services.tools.sources import Source, Spec


class CannotPromote(MilepostError):
    """A candidate cannot be put in its place, or not be taken out of it."""


class Importer(Protocol):
    """What infra/cli/import_<kind>.py has beside its command."""

    def read_again(self, source: Source) -> tuple[Source, Sequence[Spec], Sequence[str]]:
        """What the source describes now. Raises MilepostError."""
        ...


async def put(client: Client, world: World, of: Shadow, reason: str) -> JsonObject:
    """Put a candidate in its place; what is to be remembered of what was there. Raises CannotPromote, MilepostError."""
    note = f"shadow {of.name}" + (f": {reason}" if reason else "")
    match of.candidate.kind:
        case "policy":
            return await promote_policy(world, of, client.user, note)
        case "llm":
            return promote_model(of, load({"home": str(world.settings.home)}), Path.cwd())
        case "tool":
            return await promote_tool(client, world, of)


async def take_out(client: Client, world: World, of: Shadow, reason: str, *, anyway: bool) -> None:
    """Put back what was there before. anyway: though it was changed since. Raises CannotPromote, MilepostError."""
    note = f"shadow {of.name} rolled back" + (f": {reason}" if reason else "")
    match of.candidate.kind:
        case "policy":
            await rollback_policy(world, of, client.user, note, anyway=anyway)
        case "llm":
            rollback_model(of, anyway=anyway)
        case "tool":
            await rollback_tool(client, world, of, anyway=anyway)


# --- rules ------------------------------------------------------------------------------------------


async def promote_policy(world: World, shadow: Shadow, by: str, note: str) -> JsonObject:
    """Put the rules in force, as `milepost policy set` does; what was in force before."""
    from services.policy.ports import PolicyVersion
    from services.policy.questions import WasSet

    policy, tenant = shadow.candidate.swap.policy, shadow.tenant
    assert policy is not None
    now = PolicyVersion.model_validate(await ask(world, "policy", "get_policy", {"tenant": tenant}))
    values = policy.model_dump(mode="json", by_alias=True)
    asked = {"tenant": tenant, "policy": values, "by": by, "note": note, "expected": now.version}
    was = WasSet.model_validate(await ask(world, "policy", "set_policy", asked))
    return {"version": now.version, "promoted": was.version}


async def rollback_policy(world: World, shadow: Shadow, by: str, note: str, *, anyway: bool) -> None:
    """Put the rules of before in force again. Raises CannotPromote if others were set in between."""
    from services.policy.ports import PolicyVersion

    before, tenant = shadow.before or {}, shadow.tenant
    now = PolicyVersion.model_validate(await ask(world, "policy", "get_policy", {"tenant": tenant}))
    if now.version != before.get("promoted") and not anyway:
        raise CannotPromote(
            "The rules were changed after the promotion.", why=f"version {now.version} is in force",
            hint="milepost policy history; to go back all the same: --yes --reason WHY",
        )  # fmt: skip
    asked = {"tenant": tenant, "version": before.get("version") or None}
    then = PolicyVersion() if not before.get("version") else PolicyVersion.model_validate(
        await ask(world, "policy", "get_policy", asked)
    )  # fmt: skip
    values = then.policy.model_dump(mode="json", by_alias=True)
    told = {"tenant": tenant, "policy": values, "by": by, "note": note, "expected": now.version}
    await ask(world, "policy", "set_policy", told)


# --- models -----------------------------------------------------------------------------------------


def promote_model(shadow: Shadow, loaded: Loaded, directory: Path) -> JsonObject:
    """Write the model into milepost.toml as the stack's default; what stood there before. Raises CannotPromote."""
    key, new = _setting(shadow.candidate, loaded)
    file = find_file(directory) or directory / FILE
    return {"file": str(file), "key": key, "value": _write(file, key, new), "promoted": new}


def rollback_model(shadow: Shadow, *, anyway: bool) -> None:
    """Write what stood there before. Raises CannotPromote if another value stands there now."""
    before = shadow.before or {}
    file, key = Path(str(before["file"])), str(before["key"])
    now = _read(file).get(key.partition(".")[2])
    if now != before["promoted"] and not anyway:
        raise CannotPromote(
            f"{file} was changed after the promotion.", why=f"{key} is {now} there",
            hint="mend it by hand, or: --yes --reason WHY",
        )  # fmt: skip
    value = before["value"]
    _write(file, key, None if value is None else str(value))


def _setting(candidate: Candidate, loaded: Loaded) -> tuple[str, str]:
    swap = candidate.swap
    key, new = ("model.scripted", str(_script(swap.said))) if swap.script is not None else ("model.name", swap.llm or DEFAULT)
    origin = loaded.origins.get(key)
    if origin is not None and origin.kind in ("environment", "flag"):
        raise CannotPromote(
            f"{variable(key)} is set, and outranks {FILE}.", why="the promotion would change nothing",
            hint=f"unset {variable(key)}, or set it to {new}",
        )  # fmt: skip
    if key == "model.name" and loaded.settings.model.scripted is not None:
        raise CannotPromote(
            "The stack answers from a script, not with a model.", why=f"model.scripted is {loaded.settings.model.scripted}",
            hint="leave model.scripted out of the settings first",
        )  # fmt: skip
    return key, new


def _script(said: Sequence[str]) -> Path:
    return Path(said[0].partition("=")[2]).resolve()


def _read(file: Path) -> dict[str, object]:
    import tomlkit

    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    group = tomlkit.parse(text).unwrap().get("model", {})
    return dict(group) if isinstance(group, dict) else {}


def _write(file: Path, key: str, value: str | None) -> str | None:
    """Change one setting of a group in place, comments and all; what it was. None: it is left out."""
    import tomlkit

    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    document, (group, _, name) = tomlkit.parse(text), key.partition(".")
    table = document.setdefault(group, tomlkit.table())
    before = table.get(name)
    if value is None:
        table.pop(name, None)
        if not table:
            document.pop(group)
    else:
        table[name] = value
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(tomlkit.dumps(document), encoding="utf-8")
    fresh.replace(file)
    return None if before is None else str(before)


# --- tools ------------------------------------------------------------------------------------------


def read_place(tenant: str, user: str, place: str, lane: str, live: Source | None) -> tuple[Source, Sequence[Spec]]:
    """The tools of a folder, or of an OpenAPI document, as a source of that lane. live: what serves the lane now.

    Raises MilepostError. The code of a folder is run, in a process of its own.
    """
    from services.tools.sources import Source

    folder = Path(place)
    kind, where = ("folder", str(folder.resolve())) if folder.is_dir() else ("openapi", _document(place))
    if kind == "folder":
        settings: dict[str, object] = {"folder": where}
    elif live is not None and live.kind == "openapi":
        settings = {**live.settings, "document": where}
    else:
        settings = {"document": where, "server": "", "auth": {}, "allow": [], "given_server": "", "variables": {}}
    made = Source.model_validate({
        "tenant": tenant, "lane": lane, "kind": kind, "settings": settings, "title": where, "owner": user,
        "since": datetime.now(UTC),
    })  # fmt: skip
    source, specs, _ = _importer(kind).read_again(made)
    return source, specs


def _document(place: str) -> str:
    if "://" in place:
        return place
    if not Path(place).is_file():
        raise CannotPromote(f"{place} is no folder and no document.", why="nothing is there", hint="--from FOLDER|SPEC")
    return str(Path(place).resolve())


async def promote_tool(client: Client, world: World, shadow: Shadow) -> JsonObject:
    """Import the candidate in the place of what serves its lane; that source."""
    source, spec = shadow.candidate.source, shadow.candidate.spec
    assert source is not None and spec is not None
    live = await source_of(world, shadow.tenant, source.lane)
    if live is None:
        raise CannotPromote(
            f"{spec.card.name} is no tool that was imported.", why=f"the lane {source.lane} is the stack's own",
            hint="import the candidate under a lane and a name of its own: milepost tools import --help",
        )  # fmt: skip
    now, specs = await asyncio.to_thread(_read_again, source)
    if spec not in specs or now.settings != source.settings:
        raise _other(source, "the shadow was asked")
    await _import(client, world, now, specs)
    return {"source": live.model_dump(mode="json")}


async def rollback_tool(client: Client, world: World, shadow: Shadow, *, anyway: bool) -> None:
    """Import again what served before, from where it came. Raises CannotPromote if that is not the same any more."""
    from services.tools.sources import Source

    before, candidate = Source.model_validate((shadow.before or {})["source"]), shadow.candidate.source
    live = await source_of(world, shadow.tenant, before.lane)
    if not anyway and (live is None or candidate is None or live.settings != candidate.settings):
        raise CannotPromote(
            f"The lane {before.lane} was changed after the promotion.", why="something else was imported into it",
            hint="milepost tools sources ls; to go back all the same: --yes --reason WHY",
        )  # fmt: skip
    now, specs = await asyncio.to_thread(_read_again, before)
    if now.settings != before.settings and not anyway:
        raise _other(before, "served before")
    await _import(client, world, now, specs)


async def _import(client: Client, world: World, source: Source, specs: Sequence[Spec]) -> None:
    from infra.cli.import_shown import Outcome
    from infra.cli.importing import bring

    outcome = Outcome(len(specs))
    await bring(client, world, source, specs, outcome, lambda done: None, False)
    if outcome.refused:
        why = "; ".join(f"{each.tool}: {each.why}" for each in outcome.refused[:3])
        raise CannotPromote("The catalogue refuses the tool.", why=why, hint=f"milepost tools sources refresh {source.lane}")


def _read_again(source: Source) -> tuple[Source, Sequence[Spec]]:
    now, specs, _ = _importer(source.kind).read_again(source)
    return now, specs


def _importer(kind: str) -> Importer:
    return cast("Importer", importlib.import_module(f"infra.cli.import_{kind}"))


def _other(source: Source, what: str) -> CannotPromote:
    return CannotPromote(
        f"{source.title} is not any more what {what}.", why="its files have changed since then",
        hint="begin a new shadow with what is there now, or: --yes --reason WHY",
    )  # fmt: skip


async def source_of(world: World, tenant: str, lane: str) -> Source | None:
    """The source that serves a lane now; None if it is one of the stack's own."""
    from infra.cli.client import ask_list
    from services.tools.source_questions import KnownSource

    found = [KnownSource.model_validate(each) for each in await ask_list(world, "tools", "sources", {"tenant": tenant})]
    return next((each.source for each in found if (each.source.tenant, each.source.lane) == (tenant, lane)), None)
