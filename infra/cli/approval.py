"""The card of a planned write that waits for a person: what would happen, what is doubtful about it, and who may allow it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from infra.cli.show import local, plain
from infra.cli.words import reason, say
from runtime.state import OpenCall
from schemas.commands import RequestApproval
from schemas.policy import Scope
from schemas.tools import Effect, Preview

Doubt: TypeAlias = Literal["ungrounded", "repeated", "destructive"]
"""What makes an approval more than a plain one."""

VALUE = 400
_EFFECTS: dict[Effect, str] = {"read": "dim", "write": "yellow", "destructive": "bold white on red"}


def approval_card(
    asked: RequestApproval, preview: Preview | None, open_call: OpenCall | None = None, *, fork: bool = False
) -> Panel:
    """What a person approves. open_call: the call as the run holds it, for its tool's title and effect.

    fork: the run is a fork, in which nothing of it happens.
    """
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for label, value in preview.rows if preview else ():
        rows.add_row(plain(label), _change(value))
    if preview and preview.price and "price" not in dict(preview.rows):
        rows.add_row(plain(say("price")), plain(f"{preview.price} {preview.currency or ''}".rstrip(), "bold"))
    effect = effect_of(open_call)
    if effect:
        rows.add_row(plain(say("effect")), plain(say(effect), _EFFECTS[effect]))
    _arguments(rows, asked)
    _before(rows, asked)
    if asked.why:
        rows.add_row(plain(say("why")), plain(reason(asked.why)))
    if asked.approvers or asked.not_by:
        rows.add_row(plain(say("approvers")), plain(who_may(asked)))
    rows.add_row(plain(say("expires")), plain(local(asked.expires), "dim"))
    summary = plain(preview.summary if preview else asked.call.name, "bold")
    title = plain(say("title", tool=title_of(asked, open_call)))
    border = "red" if doubts_of(asked, effect) else "yellow"
    if fork:
        summary = plain(say("fork nothing"), "bold yellow") + plain("\n") + summary
    return Panel.fit(Group(summary, rows), title=title, title_align="left", border_style=border)


def approval_details(asked: RequestApproval, open_call: OpenCall | None) -> Panel:
    """What stands behind the card: the arguments as they are sent, the state they were planned on, and how it was tried."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    rows.add_row(plain(say("raw arguments")), plain(json.dumps(asked.call.arguments, ensure_ascii=False, indent=1)))
    plan, card = (open_call.plan, open_call.card) if open_call else (None, None)
    if plan:
        rows.add_row(plain(say("planned state")), plain(plan.planned.state))
        rows.add_row(plain(say("write key")), plain(plan.planned.write_key, "dim"))
    if card:
        rows.add_row(plain(say("dry run")), plain(say(f"dry run {card.dry_run}")))
        if card.undo:
            rows.add_row(plain(say("undo")), plain(card.undo))
        rows.add_row(plain(say("host")), plain(f"{card.name} {card.version}, {card.lane}", "dim"))
    rows.add_row(plain(say("bound to")), plain(asked.approval_hash, "dim"))
    return Panel.fit(rows, title=plain(asked.call.name), title_align="left", border_style="dim")


def title_of(asked: RequestApproval, open_call: OpenCall | None) -> str:
    """The tool as people call it, with its name."""
    title = open_call.card.title if open_call else ""
    return f"{title} ({asked.call.name})" if title and title != asked.call.name else asked.call.name


def effect_of(open_call: OpenCall | None) -> Effect | None:
    """What the tool may do; None where its card is not at hand."""
    return open_call.card.effect if open_call else None


def doubts_of(asked: RequestApproval, effect: Effect | None) -> tuple[Doubt, ...]:
    """What speaks against a quick yes."""
    found = {"ungrounded": asked.ungrounded, "repeated": asked.before, "destructive": effect == "destructive"}
    return tuple(doubt for doubt in get_args(Doubt) if found[doubt])


def scopes_of(asked: RequestApproval) -> tuple[Scope, ...]:
    """How far an approval of this may reach: a repeat, an unnamed argument or four eyes are allowed once and no further."""
    once_only = asked.before or asked.ungrounded or asked.not_by
    return ("once",) if once_only else get_args(Scope)


def who_may(asked: RequestApproval) -> str:
    """Who may answer, in words."""
    names = ", ".join(asked.approvers)
    if asked.not_by:
        return say("approvers not by", names=names, user=asked.not_by) if names else say("not by", user=asked.not_by)
    return names or say("anyone")


def _arguments(rows: Table, asked: RequestApproval) -> None:
    """Each argument on a line; one that nobody named says so where it stands."""
    label = say("arguments")
    if not asked.call.arguments:
        rows.add_row(plain(label), plain(say("no arguments"), "dim"))
    for name, value in asked.call.arguments.items():
        text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
        line = plain(f"{name} = {text if len(text) <= VALUE else text[: VALUE - 1] + '…'}")
        rows.add_row(plain(label), line + _unnamed(name, asked.ungrounded))
        label = ""


def _unnamed(name: str, ungrounded: tuple[str, ...]) -> Text:
    inside = [each for each in ungrounded if each != name and each.startswith((f"{name}.", f"{name}["))]
    if name in ungrounded:
        return plain("  ← " + say("nobody named"), "bold red")
    return plain("  ← " + say("nobody named part", names=", ".join(inside)), "bold red") if inside else plain("")


def _before(rows: Table, asked: RequestApproval) -> None:
    from infra.cli.client import short_id

    if asked.before:
        told = asked.before
        line = say("before", at=_moment(told.at), run=short_id(told.run), times=told.times, text=told.text)
        rows.add_row(plain(say("done before"), "bold red"), plain(line) + plain("\n" + say("once more"), "bold red"))


def _moment(at: str) -> str:
    try:
        return local(datetime.fromisoformat(at))
    except ValueError:
        return at


def _change(value: str) -> Text:
    old, arrow, new = value.partition(" -> ")
    return plain(old, "dim") + plain(arrow, "dim") + plain(new, "bold green") if arrow else plain(value)
