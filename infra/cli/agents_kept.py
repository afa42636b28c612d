"""`milepost agents`: the agents that are kept for everyone of a tenant, in versions, published under their names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from infra.cli.words import say, use_language

if TYPE_CHECKING:
    from infra.settings import Settings
    from schemas.agent import AgentSpec
    from services.gateway.agents.agent import Agent, AgentStore
    from services.gateway.agents.changes import FieldChange

T = TypeVar("T")

agents = typer.Typer(no_args_is_help=True, help="Agents that are kept: versions, differences, publishing; files for git.")

Name = Annotated[str, typer.Argument(help="The agent's name, from `agents ls`.", show_default=False)]
Version = Annotated[int | None, typer.Option(min=1, help="Which version; the newest without.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for name, command in (
        ("ls", list_), ("show", show), ("add", add), ("export", export), ("versions", versions), ("diff", diff),
        ("publish", publish), ("unpublish", unpublish), ("rm", remove),
    ):  # fmt: skip
        agents.command(name)(command)
    app.add_typer(agents, name="agents")


def list_(home: Home = None, json: Json = False) -> None:
    """List the agents: the newest version of each, and which one is published."""
    use_json(json)

    async def work(store: AgentStore, settings: Settings) -> tuple[list[Agent], dict[str, int]]:
        serving = {each.name: each.version for each in await store.serving(settings.tenant)}
        return await store.agents(settings.tenant), serving

    found, serving = _stored(work, home)
    if as_json():
        print_json([{**_head(each), "serves": serving.get(each.name)} for each in found])
    elif found:
        rows = [(each.name, each.title, f"v{each.version}", _served(serving.get(each.name)), each.by, local(each.at))
                for each in found]  # fmt: skip
        print_table(("name", "title", "version", "published", "by", "at"), rows)
    else:
        console(stderr=True).print(plain(say("agents none")))


def show(name: Name, version: Version = None, home: Home = None, json: Json = False) -> None:
    """Show one agent, as `agents export` writes it."""
    from services.gateway.agents.file import write_agent
    from services.gateway.agents.keeping import draft_of, found

    use_json(json)
    agent = _stored(lambda store, settings: found(store, settings.tenant, name, version), home)
    if as_json():
        print_json(agent.model_dump(mode="json", by_alias=True))
        return
    out = console()
    head = f"v{agent.version} · {agent.by} · {local(agent.at)}" + (f" · {agent.note}" if agent.note else "")
    out.print(plain(head, "dim"))
    out.print(plain(write_agent(draft_of(agent)).rstrip()), soft_wrap=True)


def add(
    file: Annotated[Path, typer.Argument(help="YAML, TOML or JSON, as `agents export` writes it.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="In place of the file's name.", show_default=False)] = None,
    note: Annotated[str, typer.Option(help="What is new in it.", show_default=False)] = "",
    publish: Annotated[bool, typer.Option("--publish", help="Let the doors serve it at once.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Keep what a file says as the agent's next version; what is there already stays the version it is."""
    from infra.cli.agents import draft_from
    from schemas.ids import checked_token
    from services.gateway.agents import keeping

    use_json(json)
    draft = draft_from(file)
    if name is not None:
        draft = draft.model_copy(update={"name": checked_token(name, "name of an agent")})

    async def work(store: AgentStore, settings: Settings) -> Agent:
        models = ("default", settings.model.name)
        kept = await keeping.save(
            store, settings.tenant, draft, by=settings.user, now=datetime.now(UTC), note=note, models=models
        )  # fmt: skip
        return await keeping.publish(store, settings.tenant, kept.name, kept.version) if publish else kept

    _tell(_stored(work, home), "agents published" if publish else "agents kept")


def export(
    name: Name, file: Annotated[Path | None, typer.Argument(help="- or nothing: to the terminal.", show_default=False)] = None,
    version: Version = None, home: Home = None,
) -> None:  # fmt: skip
    """Write an agent as YAML to be kept in git: only what differs from an agent of which nothing is said."""
    from schemas.errors import MilepostError
    from services.gateway.agents.file import write_agent
    from services.gateway.agents.keeping import draft_of, found

    agent = _stored(lambda store, settings: found(store, settings.tenant, name, version), home)
    text = write_agent(draft_of(agent))
    if file is None or str(file) == "-":
        typer.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MilepostError(f"{file} cannot be written.", why=error.strerror or str(error), hint="check the path") from error
    console(stderr=True).print(plain(say("agents written", name=agent.name, version=agent.version, file=file), "dim"))


def versions(name: Name, home: Home = None, json: Json = False) -> None:
    """List what an agent has been, newest first."""
    use_json(json)
    found = _stored(lambda store, settings: store.versions(settings.tenant, name), home)
    if not found:
        raise _unknown(name)
    if as_json():
        print_json([_head(each) for each in found])
        return
    rows = [(f"v{each.version}", say("agents is published") if each.published else "", each.by, local(each.at), each.note)
            for each in found]  # fmt: skip
    print_table(("version", "published", "by", "at", "note"), rows)


def diff(
    name: Name, before: Annotated[int, typer.Argument(min=1, help="The older version.", show_default=False)],
    after: Annotated[int | None, typer.Argument(min=1, help="The newer one; the newest without.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Show what is different between two versions: fields, and long texts line by line."""
    from services.gateway.agents.changes import changes
    from services.gateway.agents.keeping import draft_of, found

    use_json(json)

    async def work(store: AgentStore, settings: Settings) -> tuple[Agent, Agent]:
        return await found(store, settings.tenant, name, before), await found(store, settings.tenant, name, after)

    old, new = _stored(work, home)
    told = changes(draft_of(old), draft_of(new))
    if as_json():
        print_json({"before": old.version, "after": new.version, "changes": [each.model_dump(mode="json") for each in told]})
        return
    console().print(plain(f"{name} v{old.version} → v{new.version}", "bold"))
    for each in told:
        _print_change(each)
    if not told:
        console().print(plain(say("agents same"), "dim"))


def publish(name: Name, version: Version = None, home: Home = None, json: Json = False) -> None:
    """Let the doors serve a version: by chat, OpenAI's API and the bus; an older one is the way back."""
    from services.gateway.agents import keeping

    use_json(json)
    _tell(_stored(lambda store, settings: keeping.publish(store, settings.tenant, name, version), home), "agents published")


def unpublish(name: Name, home: Home = None, json: Json = False) -> None:
    """Let the doors serve none of its versions any more."""
    from services.gateway.agents import keeping

    use_json(json)
    _stored(lambda store, settings: keeping.unpublish(store, settings.tenant, name), home)
    print_json({"name": name, "serves": None}) if as_json() else console().print(plain(say("agents unpublished", name=name)))


def remove(name: Name, home: Home = None, json: Json = False) -> None:
    """Forget an agent with all its versions; runs keep what they were asked with."""
    from services.gateway.agents import keeping

    use_json(json)
    _stored(lambda store, settings: keeping.remove(store, settings.tenant, name), home)
    print_json({"name": name, "removed": True}) if as_json() else console().print(plain(say("agents removed", name=name)))


def kept_spec(name: str, version: int | None, home: Path | None) -> AgentSpec:
    """The spec of an agent that is kept: the version named, else the published one, else the newest. Raises NotThere."""
    from services.gateway.agents.keeping import found

    async def work(store: AgentStore, settings: Settings) -> AgentSpec:
        served = await store.published(settings.tenant, name) if version is None else None
        return (served or await found(store, settings.tenant, name, version)).spec

    return _stored(work, home)


# --- what is shown ----------------------------------------------------------------------------------


def _head(agent: Agent) -> dict[str, object]:
    return agent.model_dump(mode="json", exclude={"spec", "picture", "suggestions", "tenant"})


def _served(version: int | None) -> str:
    return f"v{version}" if version else "–"


def _tell(agent: Agent, key: str) -> None:
    if as_json():
        print_json(_head(agent))
    else:
        console().print(plain(say(key, name=agent.name, version=agent.version)))


def _print_change(change: FieldChange) -> None:
    out = console()
    out.print(plain(change.field, "bold"))
    if change.lines:
        styles = {"same": ("  ", "dim"), "out": ("- ", "red"), "in": ("+ ", "green")}
        for line in change.lines:
            sign, style = styles[line.kind]
            out.print(plain(sign + line.text, style))
        return
    for sign, value, style in (("- ", change.before, "red"), ("+ ", change.after, "green")):
        if value is not None:
            out.print(plain(sign + _short(value), style))


def _short(value: object) -> str:
    from json import dumps

    text = value if isinstance(value, str) else dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]}…"


# --- where they are ---------------------------------------------------------------------------------


def _stored(work: Callable[[AgentStore, Settings], Awaitable[T]], home: Path | None) -> T:
    """Do some work with the store of this data directory. Raises NotRunning, StoreUnavailable."""
    import asyncio

    from infra.cli.options import settings_from
    from infra.local_stack import attached
    from infra.postgres.agents import PostgresAgentStore
    from infra.wiring import open_engine

    settings = attached(settings_from(home).settings)
    use_language(settings.language)

    async def run() -> T:
        engine = open_engine(settings)
        try:
            return await work(PostgresAgentStore(engine), settings)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def _unknown(name: str) -> Exception:
    from services.gateway.answers import NotThere

    return NotThere(f"There is no agent {name} that somebody keeps.", hint="milepost agents ls")
