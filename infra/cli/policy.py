"""Policy: which writes need nobody, which need whom, and which never happen; and rights that are taken back."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client
    from schemas.policy import Grant, Limit, Policy, Rule, When
    from services.policy.ports import Change, KeptRevocation, PolicyVersion
    from services.policy.questions import Checked, LimitUse, WasSet

policy = typer.Typer(no_args_is_help=True, help="Say what may happen without a person; look, try out, take rights back.")

_COLOURS = {"allow": "green", "ask": "yellow", "dry_run": "cyan", "deny": "red"}
_MARKS = {"allow": "✓", "ask": "?", "dry_run": "~", "deny": "✗"}

All = Annotated[bool, typer.Option("--all", help="Also what does not hold any more.")]
Most = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")]
Id = Annotated[str, typer.Argument(help="Its id, or the beginning of it.", show_default=False)]
ToolOf = Annotated[str | None, typer.Option("--tool", help="Of this tool.", show_default=False)]
AgentOf = Annotated[str | None, typer.Option("--agent", help="Of this agent.", show_default=False)]


class EffectName(StrEnum):
    """What a write may change."""

    WRITE = "write"
    DESTRUCTIVE = "destructive"


class UnknownId(MilepostError):
    """Nothing that is in force, or more than one thing, has an id that begins so."""


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (show, check, grants, revoke, revocations, lift, limits, history):
        policy.command()(command)
    policy.command("set")(set_)
    policy.command("revoke-grant")(revoke_grant)
    app.add_typer(policy, name="policy")


def show(
    version: Annotated[int | None, typer.Option(min=1, help="An earlier version.", show_default=False)] = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="As a file that `milepost policy set` takes.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Show the rules in force, and since when."""
    from infra.cli.client import ask, connected
    from services.policy.ports import PolicyVersion

    use_json(json)

    async def work(client: Client, world: World) -> PolicyVersion:
        asked = {"tenant": client.tenant, "version": version}
        return PolicyVersion.model_validate(await ask(world, "policy", "get_policy", asked))

    found = connected(work, home)
    if as_json():
        print_json(found.model_dump(mode="json", by_alias=True))
    elif yaml:
        _print_yaml(found.policy)
    else:
        _print_policy(found)


def set_(
    file: Annotated[Path, typer.Argument(help="Rules in YAML or JSON, see docs/policy.md.", show_default=False)],
    note: Annotated[str, typer.Option(help="Why, for the history.", show_default=False)] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    expect: Annotated[int | None, typer.Option(min=0, help="Refuse if another is in force.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Put the rules of a file in force, in place of those before; every version is kept."""
    from infra.cli.client import ask, connected
    from infra.cli.policy_file import read_policy
    from services.policy.questions import WasSet

    use_json(json)
    _, values = read_policy(file)

    async def work(client: Client, world: World) -> WasSet:
        asked = {"tenant": client.tenant, "policy": values, "by": client.user, "note": note, "expected": expect, "dry": dry_run}
        return WasSet.model_validate(await ask(world, "policy", "set_policy", asked))

    told = connected(work, home)
    if as_json():
        print_json(told.model_dump(mode="json"))
    else:
        _print_set(told, dry_run)


def check(
    tool: Annotated[str, typer.Argument(help="The tool's name.", show_default=False)],
    args: Annotated[str, typer.Option("--args", help="Its arguments, as a JSON object.")] = "{}",
    agent: Annotated[str, typer.Option(help="The agent's name.")] = "assistant",
    agent_file: Annotated[
        Path | None, typer.Option(help="The agent's file: its own rules and `approval` count too.", show_default=False)
    ] = None,
    user: Annotated[str | None, typer.Option(help="Who asks the agent; you without.", show_default=False)] = None,
    conversation: Annotated[str, typer.Option(help="In which conversation.", show_default=False)] = "",
    ungrounded: Annotated[list[str] | None, typer.Option(help="An argument that nobody named.", show_default=False)] = None,
    price: Annotated[str | None, typer.Option(help="What it costs, such as 128.00.", show_default=False)] = None,
    currency: Annotated[str | None, typer.Option(help="In which currency.", show_default=False)] = None,
    at: Annotated[datetime | None, typer.Option(help="When; now without.", show_default=False)] = None,
    effect: Annotated[EffectName | None, typer.Option(help="Instead of its card's.", show_default=False)] = None,
    rules: Annotated[Path | None, typer.Option(help="Rules of a file, not yet in force.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Say what would become of a call, and which rule decides. Nothing is called, counted or kept."""
    from infra.cli.agents import agent_from
    from infra.cli.client import ask, connected
    from infra.cli.policy_file import read_policy
    from services.policy.questions import Checked

    use_json(json)
    spec = agent_from(agent_file) if agent_file else None
    asked = {
        "arguments": _object(args), "ungrounded": ungrounded or [], "conversation": conversation, "price": price,
        "currency": currency, "at": at.astimezone().isoformat() if at else None, "tool": tool,
        "agent": spec.name if spec else agent, "approval": spec.approval if spec else "writes",
        "rules": [rule.model_dump(mode="json") for rule in spec.policy] if spec else [],
        "policy": read_policy(rules)[1] if rules else None,
    }  # fmt: skip

    async def work(client: Client, world: World) -> tuple[str, Checked]:
        whose = user or client.user
        card = await _card(client, world, tool, effect)
        said = await ask(world, "policy", "check", {**asked, **card, "tenant": client.tenant, "user": whose})
        return whose, Checked.model_validate(said)

    whose, told = connected(work, home)
    if as_json():
        print_json(told.model_dump(mode="json"))
    else:
        _print_checked(told, f"{tool} by {asked['agent']} for {whose}")


def grants(
    agent: AgentOf = None, tool: ToolOf = None, all: All = False, limit: Most = 100, home: Home = None, json: Json = False
) -> None:
    """List standing approvals: what a person allowed for a conversation, or for good."""
    from infra.cli.client import connected

    use_json(json)
    found = connected(lambda client, world: _grants(client, world, agent=agent, tool=tool, all=all, limit=limit), home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif found:
        columns = ("id", "tool", "agent", "by", "since", "state", "for")
        rows = [(each.id[:12], each.tool, each.agent, each.by, local(each.since), _state(each), _reach(each)) for each in found]
        print_table(columns, rows)
    else:
        console(stderr=True).print("no standing approval · milepost approvals approve RUN --scope conversation")


def revoke_grant(id: Id, home: Home = None, json: Json = False) -> None:
    """Take a standing approval back: the next such call is asked about again."""
    from infra.cli.client import ask, connected
    from schemas.policy import Grant

    use_json(json)

    async def work(client: Client, world: World) -> Grant:
        known = [each.id for each in await _grants(client, world, all=True, limit=1000)]
        asked = {"tenant": client.tenant, "id": _full(id, known, "milepost policy grants"), "by": client.user}
        return Grant.model_validate(await ask(world, "policy", "revoke_grant", asked))

    gone = connected(work, home)
    if as_json():
        print_json(gone.model_dump(mode="json"))
    else:
        console().print(plain("✓ ", "green") + plain(f"{gone.tool} by {gone.agent} is asked about again"))


def revoke(
    run: Annotated[str | None, typer.Option(help="Calls of this run, and of runs that it began.", show_default=False)] = None,
    tool: ToolOf = None, agent: AgentOf = None,
    user: Annotated[str | None, typer.Option(help="Calls for this user.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All writes of the tenant.")] = False,
    reason: Annotated[str, typer.Option(help="Why.", show_default=False)] = "",
    for_s: Annotated[float | None, typer.Option("--for", min=1, help="For so many seconds.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Take the right to call back, at once and for running agents too: calls that have all that is named."""
    from infra.cli.client import ask, connected, find_run
    from services.policy.ports import KeptRevocation

    use_json(json)
    named = {"tool": tool, "agent": agent, "user": user}
    if not everything and run is None and not any(named.values()):
        raise MilepostError(
            "Nothing is named.", why="that would stop every write of the tenant",
            hint="--run, --tool, --agent or --user; or --everything",
        )  # fmt: skip

    async def work(client: Client, world: World) -> KeptRevocation:
        of_run = await find_run(world, run) if run else None
        asked = {"tenant": client.tenant, "run": of_run, **named, "by": client.user, "reason": reason, "for_s": for_s}
        return KeptRevocation.model_validate(await ask(world, "policy", "revoke", asked))

    told = connected(work, home)
    if as_json():
        print_json(told.model_dump(mode="json"))
    else:
        until = f" until {local(told.until)}" if told.until else ""
        console().print(plain("✓ ", "green") + plain(f"taken back{until}: {_about(told)}"))
        console().print(plain(f"give it again: milepost policy lift {told.id[:12]}", "dim"))


def revocations(all: All = False, limit: Most = 100, home: Home = None, json: Json = False) -> None:
    """List rights that were taken back."""
    from infra.cli.client import connected

    use_json(json)
    found = connected(lambda client, world: _revocations(client, world, all=all, limit=limit), home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif found:
        rows = [(each.id[:12], local(each.since), each.by, _held(each), _about(each)) for each in found]
        print_table(("id", "since", "by", "state", "which calls"), rows)
    else:
        console(stderr=True).print("nothing is taken back · milepost policy revoke --help")


def lift(id: Id, home: Home = None, json: Json = False) -> None:
    """Give a right to call again."""
    from infra.cli.client import ask, connected
    from services.policy.ports import KeptRevocation

    use_json(json)

    async def work(client: Client, world: World) -> KeptRevocation:
        known = [each.id for each in await _revocations(client, world, all=True, limit=1000)]
        asked = {"tenant": client.tenant, "id": _full(id, known, "milepost policy revocations"), "by": client.user}
        return KeptRevocation.model_validate(await ask(world, "policy", "lift", asked))

    told = connected(work, home)
    if as_json():
        print_json(told.model_dump(mode="json"))
    else:
        console().print(plain("✓ ", "green") + plain(f"given again: {_about(told)}"))


def limits(home: Home = None, json: Json = False) -> None:
    """Show how much of each limit is used."""
    from infra.cli.client import ask_list, connected
    from services.policy.questions import LimitUse

    use_json(json)

    async def work(client: Client, world: World) -> list[LimitUse]:
        return [LimitUse.model_validate(each) for each in await ask_list(world, "policy", "spent", {"tenant": client.tenant})]

    found = connected(work, home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif found:
        print_table(
            ("limit", "of", "used", "window", "beyond"),
            [(each.limit, each.bucket or "all", _used(each), _span(each.window_s), each.beyond) for each in found],
        )
    else:
        console(stderr=True).print("no limit is in force, or none has counted anything · milepost policy show")


def history(limit: Most = 50, home: Home = None, json: Json = False) -> None:
    """List who changed what: rules, standing approvals, rights taken back. Verdicts stand in their runs."""
    from infra.cli.client import ask_list, connected
    from services.policy.ports import Change

    use_json(json)

    async def work(client: Client, world: World) -> list[Change]:
        asked = {"tenant": client.tenant, "limit": limit}
        return [Change.model_validate(each) for each in await ask_list(world, "policy", "history", asked)]

    found = connected(work, home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif found:
        rows = [(local(each.at), each.by, each.deed.replace("_", " "), each.subject[:12], each.detail) for each in found]
        print_table(("when", "who", "what", "id", "about"), rows)
    else:
        console(stderr=True).print("nobody has changed anything yet · milepost policy set FILE")


# --- asking ---


async def _grants(client: Client, world: World, **which: object) -> list[Grant]:
    from infra.cli.client import ask_list
    from schemas.policy import Grant

    found = await ask_list(world, "policy", "grants", {"tenant": client.tenant, **which})
    return [Grant.model_validate(each) for each in found]


async def _revocations(client: Client, world: World, **which: object) -> list[KeptRevocation]:
    from infra.cli.client import ask_list
    from services.policy.ports import KeptRevocation

    found = await ask_list(world, "policy", "revocations", {"tenant": client.tenant, **which})
    return [KeptRevocation.model_validate(each) for each in found]


async def _card(client: Client, world: World, tool: str, effect: EffectName | None) -> dict[str, object]:
    from infra.cli.client import ask_list
    from services.retrieval.catalogue_questions import KnownTool

    if effect:
        return {"effect": effect.value}
    found = await ask_list(world, "retrieval", "get_tools", {"tenant": client.tenant, "names": [tool]})
    if not found:
        hint = "milepost tools ls, or say --effect write"
        raise MilepostError(f"There is no tool {tool}.", why="the catalogue does not know what it changes", hint=hint)
    card = KnownTool.model_validate(found[0]).card
    return {"effect": card.effect, "lane": card.lane}


def _object(text: str) -> dict[str, object]:
    from schemas.canonical import read_json
    from schemas.errors import ProtocolError

    hint = """--args '{"InstanceId": "i-1"}'"""
    try:
        found = read_json(text, limit=256 * 1024)
    except ProtocolError as error:
        raise MilepostError("The arguments are no JSON object.", why=error.why or error.what, hint=hint) from error
    if not isinstance(found, dict):
        raise MilepostError("The arguments are no JSON object.", why=f"they are a {type(found).__name__}", hint=hint)
    return found


def _full(id: str, known: list[str], hint: str) -> str:
    found = [each for each in known if each.startswith(id)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownId(f"{len(found)} ids begin with {id}.", hint="write more of it")
    raise UnknownId(f"No id begins with {id}.", hint=hint)


# --- printing ---


def _print_policy(found: PolicyVersion) -> None:
    out = console()
    if not found.version:
        out.print(plain("nobody has set rules: each agent's own and its `approval` decide", "dim"))
        console(stderr=True).print(plain("milepost policy set FILE · docs/policy.md has examples", "dim"))
        return
    since = f" since {local(found.at)} by {found.by or 'somebody who was forgotten'}" if found.at else ""
    out.print(plain(f"version {found.version}", "bold") + plain(f"{since} · {found.hash[:12]}", "dim"))
    if found.note:
        out.print(plain(found.note))
    if found.policy.rules:
        rows = [
            (str(place), plain(each.then, _COLOURS[each.then]), each.name, _who(each), _when(each.when))
            for place, each in enumerate(found.policy.rules, 1)
        ]
        print_table(("", "then", "rule", "approved by", "when"), rows, right=("",))
    for limit in found.policy.limits:
        out.print(plain(f"limit {limit.name}: ", "bold") + plain(_limit(limit)))
    out.print(plain(f"arguments that nobody named: {found.policy.ungrounded}"))


def _print_yaml(rules: Policy) -> None:
    import sys

    import yaml

    said = rules.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    sys.stdout.write(yaml.safe_dump(said, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120))


def _print_set(told: WasSet, dry_run: bool) -> None:
    out = console()
    for line in told.changes:
        colour = {"+": "green", "-": "red"}.get(line[0], "yellow")
        out.print(plain(line, colour))
    if not told.changes:
        out.print(plain("nothing changes"))
    for warning in told.warnings:
        console(stderr=True).print(plain("! ", "yellow") + plain(warning))
    if dry_run:
        out.print(plain(f"version {told.version} stays in force", "dim"))
    else:
        out.print(plain("✓ ", "green") + plain(f"version {told.version} is in force"))


def _print_checked(told: Checked, call: str) -> None:
    out, verdict = console(), told.verdict
    colour = _COLOURS[verdict.outcome]
    out.print(plain(f"{_MARKS[verdict.outcome]} {verdict.outcome.replace('_', ' ')}", f"bold {colour}") + plain(f"  {call}"))
    why = "" if verdict.why == f"rule {verdict.rule}" else verdict.why
    rows = [("rule", verdict.rule), ("why", why), ("grant", (verdict.grant or "")[:12])]
    rows += [
        ("approved by", ", ".join(verdict.approvers)),
        ("four eyes", "who asked may not approve" if verdict.four_eyes else ""),
    ]
    rows += [("waits", _span(verdict.expires_s) if verdict.expires_s else "")]
    rows += [("price", "is needed: say --price and --currency" if verdict.price_needed else "")]
    counted = told.limits if verdict.outcome in ("allow", "ask") else ()
    rows += [(f"limit {each.limit}", f"{_used(each)} in {_span(each.window_s)}") for each in counted]
    for label, text in rows:
        if text:
            out.print(plain(f"  {label}: ", "dim") + plain(text))


def _state(grant: Grant) -> str:
    return f"revoked by {grant.revoked_by or 'somebody'}" if grant.revoked else "holds"


def _reach(grant: Grant) -> str:
    from schemas.canonical import canonical

    return f"conversation {grant.conversation}" if grant.scope == "conversation" else canonical(grant.arguments).decode()


def _held(each: KeptRevocation) -> str:
    if each.lifted:
        return f"lifted by {each.lifted_by or 'somebody'}"
    return f"until {local(each.until)}" if each.until else "holds"


def _about(each: KeptRevocation) -> str:
    named = {"run": each.run and each.run[:15], "tool": each.tool, "agent": each.agent, "user": each.user}
    said = ", ".join(f"{what} {name}" for what, name in named.items() if name) or "everything"
    return f"{said} ({each.reason})" if each.reason else said


def _used(each: LimitUse) -> str:
    parts = [f"{each.writes} of {each.of_writes} writes"] if each.of_writes is not None else []
    parts += [f"{each.money} of {each.of_money:g} {each.currency}"] if each.of_money is not None else []
    return ", ".join(parts)


def _limit(limit: Limit) -> str:
    parts = [f"{limit.writes} writes"] if limit.writes is not None else []
    parts += [f"{limit.money:g} {limit.currency}"] if limit.money is not None else []
    whose = "" if limit.per == "tenant" else f" for each {limit.per}"
    return f"{' and '.join(parts)} in {_span(limit.window_s)}{whose}, beyond that {limit.beyond}; {_when(limit.when)}"


def _who(rule: Rule) -> str:
    if rule.then != "ask":
        return ""
    return ", ".join(rule.approvers) + (" (four eyes)" if rule.four_eyes else "") or "anyone"


def _when(when: When) -> str:
    said = when.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    parts = []
    for name, value in said.items():
        if isinstance(value, list):
            parts.append(f"{name} {', '.join(value)}")
        elif name == "arguments":
            parts += [f"{argument} = {pattern}" for argument, pattern in value.items()]
        elif name == "ungrounded":
            parts.append("an argument that nobody named" if value else "all arguments named")
        else:
            hours = when.hours if name == "hours" else when.outside_hours
            days = "" if hours is None or len(hours.days) == 7 else f" {', '.join(hours.days)}"
            parts.append(f"{name.replace('_', ' ')} {hours.from_}-{hours.to}{days} {hours.zone}" if hours else "")
    return "; ".join(parts) or "every call"


def _span(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:g} {name}"
    return f"{seconds:g} s"
