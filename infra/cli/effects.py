"""Effects: what the ledger holds, what is in doubt, and what a person does about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, at_terminal, console, local, plain, print_json, print_table, use_json
from schemas.errors import MilepostError, ProtocolError

if TYPE_CHECKING:
    from infra.cli.effect_history import Life
    from infra.cli.turn import Turn
    from infra.wiring import World
    from runtime.client import Client
    from schemas.agent import AgentSpec
    from services.tools.ledger import Effect

RECONCILE_S = 90.0
SHOWN = 12
DIGITS = 8
"""The least that a key may be shortened to."""

effects = typer.Typer(no_args_is_help=True, help="See what changed the world, settle what is in doubt, take things back.")


def checked_key(key: str) -> str:
    """A key, or its beginning. Raises ProtocolError for what is neither."""
    if not re.fullmatch(rf"[0-9a-f]{{{DIGITS},32}}", key.lower()):
        raise ProtocolError(
            f"{key!r} is no effect's key.", why=f"it has 32 hex digits, of which {DIGITS} will do", hint="milepost effects ls"
        )
    return key.lower()


Key = Annotated[
    str, typer.Argument(help="The effect's key, or its first eight or more digits.", callback=checked_key, show_default=False)
]
Note = Annotated[str, typer.Option(help="How it was found out.")]
Happened = Annotated[bool | None, typer.Option("--happened/--not-happened", help="What you found.", show_default=False)]
By = Annotated[str | None, typer.Option(help="Who found it out; you without.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (show, reconcile, settle, undo):
        effects.command()(command)
    effects.command("ls")(list_)
    app.add_typer(effects, name="effects")


def list_(
    in_doubt: Annotated[bool, typer.Option("--in-doubt", help="Only those of which nobody knows.")] = False,
    tool: Annotated[str | None, typer.Option(help="Only effects of this tool.", show_default=False)] = None,
    run: Annotated[str | None, typer.Option(help="All that a run planned, done or not.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many at most.")] = 20,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """List effects, the last begun first."""
    from infra.cli.client import ask_list, connected
    from services.tools.ledger import Effect

    use_json(json)
    if run is not None:
        _list_of_run(run, home)
        return

    async def work(client: Client, world: World) -> list[Effect]:
        which = {"states": ["in_doubt"] if in_doubt else [], "tool": tool}
        asked = {"tenant": client.tenant, "which": which, "limit": limit}
        return [Effect.model_validate(each) for each in await ask_list(world, "tools", "effects", asked)]

    found = connected(work, home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif found:
        print_table(("effect", "state", "tool", "begun", "run", "about"), [_row(each) for each in found])
    else:
        console(stderr=True).print("nothing is in doubt" if in_doubt else "nothing was changed yet · milepost demo")


def show(key: Key, home: Home = None, json: Json = False) -> None:
    """Show one effect: what was wanted, by whom it was approved, what came of it."""
    from infra.cli.client import connected

    use_json(json)
    effect, life = connected(lambda client, world: _known(client, world, key), home)
    if as_json():
        stages = [{"at": at.isoformat(), "state": state, "text": text} for at, state, text in life.stages] if life else []
        print_json({**effect.model_dump(mode="json"), "history": stages})
    else:
        _print(effect, life)


def reconcile(key: Key, home: Home = None, json: Json = False) -> None:
    """Have the provider asked now whether it happened."""
    from infra.cli.client import ask, connected
    from runtime.errors import Unreachable
    from services.tools.effects import reconcile_verb
    from services.tools.ledger import Effect

    use_json(json)

    async def work(client: Client, world: World) -> Effect:
        effect = await _effect(client, world, key)
        asked = {"tenant": client.tenant, "key": effect.key}
        try:
            return Effect.model_validate(await ask(world, "tools", reconcile_verb(effect.lane), asked, RECONCILE_S))
        except Unreachable as error:
            raise MilepostError(
                f"Nobody hosts {effect.tool} now, so its provider cannot be asked.", why=f"no answer in the lane {effect.lane}",
                hint=f"look yourself, then milepost effects settle {effect.key[:SHOWN]} --happened or --not-happened",
            ) from error  # fmt: skip

    _print_settled(connected(work, home))


def settle(
    key: Key, happened: Happened = None,
    note: Note = "", by: By = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Say what became of an effect that nobody knew about; it is written into its run's log."""
    from infra.cli.client import ask, connected
    from services.tools.ledger import Effect

    use_json(json)
    if happened is None:
        raise MilepostError("What did you find?", hint=f"milepost effects settle {key} --happened or --not-happened")

    async def work(client: Client, world: World) -> Effect:
        said = {"tenant": client.tenant, "key": key, "happened": happened, "by": by or client.user, "note": note}
        return Effect.model_validate(await ask(world, "tools", "effect_settle", said))

    _print_settled(connected(work, home))


def undo(
    key: Key, yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve it at once.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Although a run was begun for that before.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Take an effect back: a run calls the tool that its card names for that, planned and approved as any other.

    Exit code: 0 done, 1 failed or refused, 3 it waits for an approval.
    """
    from infra.cli.client import connected

    use_json(json)
    turn = connected(lambda client, world: _undone(client, world, key, yes, again), home)
    if turn.state.outcome != "completed":
        raise typer.Exit(3 if turn.state.outcome == "waiting" else 1)


# --- asking ---


async def _effect(client: Client, world: World, key: str) -> Effect:
    from infra.cli.client import ask
    from services.tools.ledger import Effect

    return Effect.model_validate(await ask(world, "tools", "effect", {"tenant": client.tenant, "key": key}))


async def _known(client: Client, world: World, key: str) -> tuple[Effect, Life | None]:
    """The entry, and its life in the log if that can be read."""
    effect = await _effect(client, world, key)
    try:
        found = await _lives(world, effect.run)
    except MilepostError:
        found = []
    return effect, next((life for life in reversed(found) if life.key == effect.key), None)


async def _lives(world: World, run: str) -> list[Life]:
    from infra.cli.client import events_of
    from infra.cli.effect_history import lives
    from runtime.fold import fold

    id, facts = await events_of(world, run)
    stored = [each for each, _ in facts]
    return lives(stored, fold(id, stored).state)


def _list_of_run(run: str, home: Home) -> None:
    from infra.cli.client import connected
    from runtime.timeline import short

    found = connected(lambda _, world: _lives(world, run), home)
    if as_json():
        print_json([
            {"key": life.key, "tool": life.tool, "arguments": life.arguments, "state": life.state} for life in found
        ])  # fmt: skip
        return
    rows = [
        (life.key[:SHOWN], life.state, life.tool, local(life.stages[0][0]), short(life.stages[-1][2], 200)) for life in found
    ]
    if rows:
        print_table(("effect", "state", "tool", "planned", "about"), rows)
    else:
        console(stderr=True).print("the run planned no effect")


async def _undone(client: Client, world: World, key: str, yes: bool, again: bool) -> Turn:
    from infra.cli.client import ask
    from infra.cli.turn import Turn
    from infra.cli.view import view
    from services.llm.caller import task_of

    effect = await _effect(client, world, key)
    if effect.state != "done":
        raise MilepostError(f"{effect.key[:SHOWN]} has not happened, so there is nothing to take back.", why=effect.state)
    if effect.undone_by and not again:
        raise MilepostError(
            f"A run was begun to take {effect.key[:SHOWN]} back.", why=effect.undone_by,
            hint=f"milepost runs show {effect.undone_by}, or --again",
        )  # fmt: skip
    tool = await _undoing(client, world, effect)
    asked = await client.ask(
        task_of(tool, effect.arguments), agent=_undoer(tool), conversation=effect.conversation or None,
        key=f"undo {effect.key} {effect.undone_by or ''}".strip(),
    )  # fmt: skip
    await ask(world, "tools", "effect_undone", {"tenant": client.tenant, "key": effect.key, "run": asked.run})
    turn = Turn(client, asked.run, view(json=as_json(), events=False), "yes" if yes else "ask" if at_terminal() else "leave")
    await turn.go()
    return turn


async def _undoing(client: Client, world: World, effect: Effect) -> str:
    """The name of the tool that takes an effect back."""
    from infra.cli.client import ask_list
    from services.retrieval.catalogue_questions import KnownTool

    found = await ask_list(world, "retrieval", "get_tools", {"tenant": client.tenant, "names": [effect.tool]})
    undo = KnownTool.model_validate(found[0]).card.undo if found else None
    if undo is None:
        raise MilepostError(
            f"{effect.tool} names no tool that takes it back.", why="its card has no `undo`", hint="take it back by hand"
        )
    return undo


def _undoer(tool: str) -> AgentSpec:
    from schemas.agent import AgentSpec, Budget, Recall
    from services.llm.caller import NAME

    return AgentSpec(
        name="undo", model=NAME, model_host=NAME, tools=(tool,), tool_k=0, knowledge_k=0, collections=(),
        recall=Recall(similar=0, facts=0, summary=False), budget=Budget(steps=2, calls=1, history_tokens=0),
    )  # fmt: skip


# --- printing ---


def _state(effect: Effect) -> str:
    if effect.settled_by:
        return "reconciled: happened" if effect.state == "done" else "reconciled: did not happen"
    return effect.state.replace("_", " ")


def _about(effect: Effect) -> str:
    from runtime.timeline import short

    said = effect.receipt if effect.state == "done" else effect.error
    return short(str((said or {}).get("text") or (said or {}).get("what") or ""), 200)


def _row(effect: Effect) -> tuple[str, ...]:
    """A line of the list; on a terminal key, run and time are as short as they can be told apart by."""
    from infra.cli.client import short_id

    key, run, begun = effect.key[:SHOWN], effect.run, local(effect.since)
    if console().is_terminal:
        key, run, begun = key[:DIGITS], short_id(run), begun[5:16]
    return key, _state(effect), effect.tool, begun, run, _about(effect)


def _print_settled(effect: Effect) -> None:
    if as_json():
        print_json(effect.model_dump(mode="json"))
    elif effect.state == "in_doubt":
        console().print(
            plain("? ", "yellow") + plain(f"{effect.tool} is still in doubt · milepost effects show {effect.key[:SHOWN]}")
        )
    else:
        word = "happened" if effect.state == "done" else "did not happen"
        console().print(
            plain("✓ ", "green") + plain(f"{effect.tool} {word}: {_about(effect) or effect.note or effect.settled_by}")
        )


def _print(effect: Effect, life: Life | None) -> None:
    from runtime.timeline import short
    from schemas.canonical import canonical

    out = console()
    out.print(plain(f"{effect.tool}  ", "bold") + plain(_state(effect)))
    price = f"{effect.price} {effect.currency or ''}".strip() if effect.price else ""
    lines = {
        "effect": effect.key, "arguments": canonical(effect.arguments).decode(), "run": effect.run,
        "conversation": effect.conversation, "asked by": effect.user, "price": price, "lane": effect.lane,
        "times": f"{effect.round + 1}" if effect.round else "", "attempts": str(effect.attempts) if effect.attempts > 1 else "",
        "begun": local(effect.since), "ended": local(effect.finished) if effect.finished else "",
        "found out": f"by {effect.settled_by}" + (f": {effect.note}" if effect.note else "") if effect.settled_by else "",
        "taken back": f"by run {effect.undone_by}" if effect.undone_by else "", "says": _about(effect),
    }  # fmt: skip
    for name, line in lines.items():
        if line:
            out.print(plain(f"{name:<13}", "dim") + plain(line))
    for at, state, text in life.stages if life else ():
        out.print(plain(f"{local(at)}  ", "dim") + plain(f"{state:<11}") + plain(short(text, 200)))
    if effect.state == "in_doubt":
        digits = effect.key[:SHOWN]
        out.print(
            plain(f"milepost effects reconcile {digits} · milepost effects settle {digits} --happened or --not-happened", "dim")
        )
