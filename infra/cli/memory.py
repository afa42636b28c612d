"""Memory: what was said in conversations, and what is known about users."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, question_of
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client
    from schemas.events import Summary, UserFact
    from services.memory.ports import PastTurn, Talk

memory = typer.Typer(no_args_is_help=True, help="Look into conversations, and keep facts about users.")

User = Annotated[str | None, typer.Option(help="The user; you without.", show_default=False)]
Conversation = Annotated[str | None, typer.Option(help="A conversation.", show_default=False)]
Key = Annotated[str, typer.Argument(help="What the fact is about, such as city.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (show, search, remember):
        memory.command()(command)
    memory.command("ls")(list_)
    memory.command("forget-fact")(forget_fact)
    app.add_typer(memory, name="memory")


def list_(
    user: Annotated[str | None, typer.Option(help="Only conversations of this user.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many at most.")] = 20,
    before: Annotated[datetime | None, typer.Option(help="Only those whose last turn was earlier.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """List conversations, those with the newest turn first."""
    from infra.cli.client import connected

    use_json(json)
    found = connected(lambda client, world: _talks(client, world, user, limit, before), home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
    elif found:
        _print_talks(found)
    else:
        console(stderr=True).print("no conversation is known · milepost chat")


def show(
    user: User = None, conversation: Conversation = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many turns or conversations.")] = 20,
    before: Annotated[int | None, typer.Option(min=0, help="Only turns numbered lower.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Show what is known about a user, or what was said in a conversation: its summary and its last turns."""
    from infra.cli.client import connected

    use_json(json)
    if user is not None and conversation is not None:
        raise MilepostError("--user and --conversation are two questions.", hint="give one of them")
    if conversation is None:
        facts, talks = connected(lambda client, world: _of_user(client, world, user, limit), home)
        _print_user(facts, talks, user)
        return
    summary, turns = connected(lambda client, world: _of_conversation(client, world, conversation, limit, before), home)
    _print_conversation(conversation, summary, turns, limit)


def search(
    text: Annotated[str, typer.Argument(help="What the turns are about.", show_default=False)],
    user: User = None, conversation: Conversation = None,
    k: Annotated[int, typer.Option("-k", min=1, max=32, help="How many turns.")] = 5, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Find turns by meaning and by words: in one conversation, or in all of a user's."""
    from infra.cli.client import ask_list, connected
    from services.memory.ports import PastTurn

    use_json(json)
    text = question_of(text, 'milepost memory search "the order of tea"')

    async def work(client: Client, world: World) -> list[PastTurn]:
        scope = {"conversation": conversation} if conversation else {"user": user or client.user}
        asked = {"tenant": client.tenant, "text": text, "k": k, **scope}
        return [PastTurn.model_validate(each) for each in await ask_list(world, "memory", "search_turns", asked)]

    found = connected(work, home)
    if as_json():
        print_json([each.model_dump(mode="json") for each in found])
        return
    for each in found:
        _print_turn(each, f"{each.conversation} · score {each.score or 0:.3f}")
    if not found:
        console(stderr=True).print("nothing found · milepost memory ls")


def remember(
    key: Key, text: Annotated[str, typer.Argument(help="What is known, in a sentence.", show_default=False)],
    user: User = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Keep a fact about a user, in place of what its key said before."""
    from infra.cli.client import ask, connected
    from schemas.events import UserFact

    use_json(json)

    async def work(client: Client, world: World) -> tuple[str, UserFact]:
        whose = user or client.user
        asked = {"tenant": client.tenant, "user": whose, "key": key, "text": text, "source": client.user}
        return whose, UserFact.model_validate(await ask(world, "memory", "remember", asked))

    whose, fact = connected(work, home)
    if as_json():
        print_json({"user": whose, **fact.model_dump(mode="json")})
    else:
        console().print(plain("✓ ", "green") + plain(f"about {whose}: ") + plain(f"{fact.key}: ", "bold") + plain(fact.text))


def forget_fact(key: Key, user: User = None, home: Home = None, json: Json = False) -> None:
    """Forget one fact about a user."""
    from infra.cli.client import ask, connected

    use_json(json)

    async def work(client: Client, world: World) -> tuple[str, bool]:
        whose = user or client.user
        return whose, bool(await ask(world, "memory", "forget_fact", {"tenant": client.tenant, "user": whose, "key": key}))

    whose, was_there = connected(work, home)
    if not was_there:
        raise MilepostError(
            f"Nothing is known about {whose} under {key}.",
            why="no fact has this key",
            hint=f"milepost memory show --user {whose}",
        )
    if as_json():
        print_json({"user": whose, "key": key, "forgotten": True})
    else:
        console().print(plain("✓ ", "green") + plain(f"{key} of {whose} is forgotten"))


# --- asking ---


async def _talks(client: Client, world: World, user: str | None, limit: int, before: datetime | None = None) -> list[Talk]:
    from infra.cli.client import ask_list
    from services.memory.ports import Talk

    moment = before.astimezone().isoformat() if before else None
    asked = {"tenant": client.tenant, "user": user, "limit": limit, "before": moment}
    return [Talk.model_validate(each) for each in await ask_list(world, "memory", "talks", asked)]


async def _of_user(client: Client, world: World, user: str | None, limit: int) -> tuple[list[UserFact], list[Talk]]:
    from infra.cli.client import ask_list
    from schemas.events import UserFact

    whose = user or client.user
    facts = await ask_list(world, "memory", "facts", {"tenant": client.tenant, "user": whose})
    return [UserFact.model_validate(each) for each in facts], await _talks(client, world, whose, limit)


async def _of_conversation(
    client: Client, world: World, conversation: str, limit: int, before: int | None
) -> tuple[Summary | None, list[PastTurn]]:
    from infra.cli.client import ask, ask_list
    from schemas.events import Summary
    from services.memory.ports import PastTurn

    asked = {"tenant": client.tenant, "conversation": conversation, "limit": limit, "before": before}
    turns = [PastTurn.model_validate(each) for each in await ask_list(world, "memory", "turns", asked)]
    if not turns and before is None:
        raise MilepostError(f"There is no conversation {conversation}.", why="no turn of it is kept", hint="milepost memory ls")
    summary = await ask(world, "memory", "summary", asked)
    return None if summary is None else Summary.model_validate(summary), turns


# --- printing ---


def _print_talks(talks: list[Talk]) -> None:
    from runtime.timeline import short

    rows = [
        (each.conversation, str(each.turns), local(each.last), ", ".join(each.users), short(each.task, 200)) for each in talks
    ]
    print_table(("conversation", "turns", "last", "user", "last asked"), rows, right=("turns",))


def _print_user(facts: list[UserFact], talks: list[Talk], user: str | None) -> None:
    if as_json():
        known = [fact.model_dump(mode="json") for fact in facts]
        print_json({"facts": known, "conversations": [talk.model_dump(mode="json") for talk in talks]})
        return
    if facts:
        print_table(("about", "from", "fact"), [(each.key, _source(each.source), each.text) for each in facts])
    else:
        whose = f" --user {user}" if user else ""
        console(stderr=True).print(plain(f'no fact is known · milepost memory remember city "lives in Hangzhou"{whose}'))
    if talks:
        console().print()
        _print_talks(talks)


def _source(source: str) -> str:
    from infra.cli.client import short_id

    return f"run {short_id(source)}" if source[:6].isdigit() else source


def _print_conversation(conversation: str, summary: Summary | None, turns: list[PastTurn], limit: int) -> None:
    if as_json():
        told = summary.model_dump(mode="json") if summary else None
        print_json({"conversation": conversation, "summary": told, "turns": [each.model_dump(mode="json") for each in turns]})
        return
    out = console()
    if summary:
        out.print(plain("summary", "bold") + plain(f"  up to run {summary.upto}, by run {summary.by}", "dim"))
        out.print(plain(summary.text))
        out.print()
    for each in turns:
        _print_turn(each, f"number {each.ended}")
    if len(turns) == limit and turns:
        earlier = f"milepost memory show --conversation {conversation} --before {turns[0].ended}"
        console(stderr=True).print(plain(f"earlier turns: {earlier}", "dim"))


def _print_turn(past: PastTurn, about: str) -> None:
    out, turn = console(), past.turn
    out.print(plain(f"{about} · {local(past.since)} · run {turn.run}", "dim"))
    out.print(plain(f"{past.user}: ", "bold") + plain(turn.task))
    for result in turn.results:
        where = f" {result.ref}" if result.ref else ""
        out.print(plain(f"  {result.tool}{where}: ", "cyan") + plain(_one_line(result.text), "dim"))
    out.print(plain("› ", "green") + plain(turn.answer))
    out.print()


def _one_line(text: str) -> str:
    from runtime.timeline import short

    return short(text, 200)
