"""Votes of a person on the replies of two: blind, in random order, and what they add up to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from infra.cli.evaluating_shown import KEPT, Data, Out
from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json
from infra.cli.words import say, use_language
from infra.evaluation import LONGEST
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.evaluation.voting import Vote
    from infra.evaluation.wiring import Subject, Wanted
    from infra.settings import Settings
    from schemas.messages import Message
    from schemas.tools import ToolCard
    from services.evaluation.item import Reply

_SIDE = "a model's name (NAME@PRECISION), agent:FILE-or-NAME, or URL#MODEL"
A = Annotated[str, typer.Option("--a", help=f"One of the two: {_SIDE}.", show_default=False)]
B = Annotated[str, typer.Option("--b", help="The other.", show_default=False)]
_KEYS: dict[str, Literal["1", "2", "tie", "bad"]] = {"1": "1", "2": "2", "t": "tie", "b": "bad"}


class _Asked(NamedTuple):
    """What both are asked. text: what the person sees of it."""

    text: str
    messages: Sequence[Message]
    cards: Sequence[ToolCard] = ()


def vote(
    a: A, b: B,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="What to ask; repeatable.", show_default=False)] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help='A file: a prompt a line, or {"prompt": ...} a line.', show_default=False)
    ] = None,
    benchmark: Annotated[str, typer.Option(help="Ask a benchmark's items: bfcl:live.", show_default=False)] = "",
    data: Data = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="So many at most.", show_default=False)] = None,
    longest: Annotated[int, typer.Option(min=1, max=8192, help="Tokens of a reply at most.")] = LONGEST,
    key_env: Annotated[str, typer.Option(help="The variable with the key of endpoints.", show_default=False)] = "",
    by: Annotated[str, typer.Option(help="Who votes.", show_default=False)] = "",
    out: Out = KEPT, home: Home = None,
) -> None:  # fmt: skip
    """See two replies side by side, not knowing whose they are, and vote. Without prompts, they are typed.

    1 or 2 is the better one, t a tie, b both are bad, s skips, q or ctrl-D ends. Votes are kept; `eval votes` adds them up.
    """
    import asyncio

    from infra import logs
    from infra.evaluation.result import How
    from infra.evaluation.wiring import Wanted

    settings = settings_from(home).settings
    use_language(settings.language)
    logs.configure("client", level="error")
    if a == b:
        raise MilepostError(f"{a} stands on both sides.", why="there is nothing to choose", hint="name two: --a X --b Y")
    if sum(map(bool, (prompt, from_, benchmark))) > 1:
        raise MilepostError("--prompt, --from and --benchmark exclude each other.", hint="give one of them, or none to type")
    wanted = Wanted(data, limit=limit, how=How(longest=longest))
    given = _given(prompt or (), from_, benchmark, wanted)
    sides = (_subject(a, key_env, home), _subject(b, key_env, home))
    kept = asyncio.run(_vote_all((a, b), sides, given, wanted, settings, out, by, limit))
    console().print(plain(say("eval voted", count=kept, out=out), "dim"))


def _given(prompts: Sequence[str], file: Path | None, benchmark: str, wanted: Wanted) -> list[_Asked] | None:
    """What is asked; None: what the person types."""
    if benchmark:
        from infra.evaluation.wiring import questions_of

        items = questions_of(benchmark, wanted).items
        return [_Asked(_last(item.messages), item.messages, item.cards) for item in items]
    if file is not None:
        prompts = _lines(file)
    if not prompts:
        return None
    if empty := next((place for place, each in enumerate(prompts, start=1) if not each.strip()), None):
        raise MilepostError(f"Prompt {empty} is empty.", hint="leave it out")
    return [_typed(each) for each in prompts]


def _typed(text: str) -> _Asked:
    from schemas.messages import Message

    return _Asked(text, (Message(role="user", content=text, origin="user"),))


def _last(messages: Sequence[Message]) -> str:
    return "\n\n".join(f"{each.role}: {each.content}" for each in messages if each.role != "system")


def _lines(file: Path) -> list[str]:
    """The prompts of a file. Raises MilepostError."""
    import json

    try:
        lines = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise MilepostError(f"{file} cannot be read.", why=str(error)[:300], hint="a text file, UTF-8") from error
    if not lines:
        raise MilepostError(f"{file} has no prompt.", why="it is empty", hint="a prompt on each line")
    if file.suffix != ".jsonl":
        return lines
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(str(json.loads(line)["prompt"]))
        except (ValueError, KeyError, TypeError) as error:
            raise MilepostError(f"Line {number} of {file} is no prompt.", why=str(error), hint='{"prompt": TEXT}') from error
    return found


def _subject(said: str, key_env: str, home: Path | None) -> Subject:
    """Who is meant by a word of the command line. Raises what is said of agents."""
    from infra.evaluation.wiring import Subject

    if said.startswith("agent:"):
        from infra.cli.agents import agent_named

        return Subject(agent=agent_named(Path(said.removeprefix("agent:")), (), home), label=said)
    if said.startswith(("http://", "https://")):
        address, _, model = said.partition("#")
        return Subject(endpoint=address, name=model, key_env=key_env, label=said)
    if (Path(said) / "model.json").is_file():
        return Subject(folder=Path(said), label=said)
    name, _, precision = said.partition("@")
    return Subject(model=name, precision=precision or "auto", label=said)


async def _vote_all(
    names: tuple[str, str], sides: tuple[Subject, Subject], given: list[_Asked] | None, wanted: Wanted, settings: Settings,
    out: Path, by: str, limit: int | None,
) -> int:  # fmt: skip
    """Ask, show and keep, until there is nothing more to ask or the person has enough; how many votes."""
    import secrets
    from dataclasses import replace

    from infra.evaluation.voting import FILE, add_votes, blind
    from infra.evaluation.wiring import speaking

    kept, chance = 0, secrets.SystemRandom()
    async with AsyncExitStack() as stack:
        speakers = []
        for side in sides:
            own = wanted.how.model_copy(update={"own_tools": given is None or not any(each.cards for each in given)})
            speaker, _ = await stack.enter_async_context(speaking(side, replace(wanted, how=own, at_once=1), settings))
            speakers.append(speaker)
        async for number, asked in _questions(given, limit):
            first = blind(chance)
            with console(stderr=True).status(say("eval speaking")):
                replies = [await speaker.speak(asked.messages, asked.cards) for speaker in speakers]
            shown = replies if first == "a" else replies[::-1]
            key = await _ask(number, asked, shown)
            if key is None:
                break
            if choice := _KEYS.get(key):
                kept += add_votes(out / FILE, [_vote(names, asked, replies, choice, first, by)])
                console().print(plain(say("eval was", first=names[first == "b"], second=names[first == "a"]), "dim"))
    return kept


async def _questions(given: list[_Asked] | None, limit: int | None) -> AsyncIterator[tuple[int, _Asked]]:
    from infra.cli.keyboard import ask_line

    if given is not None:
        for number, each in enumerate(given[:limit], start=1):
            yield number, each
        return
    number = 0
    while limit is None or number < limit:
        line = await ask_line("› ")
        if line is None or line.strip() in ("/exit", "q"):
            return
        if line.strip():
            number += 1
            yield number, _typed(line.strip())


async def _ask(number: int, asked: _Asked, replies: Sequence[Reply]) -> str | None:
    """Show both and ask which is better: the key that was pressed, None for enough."""
    from rich.columns import Columns
    from rich.panel import Panel

    from infra.cli.keyboard import choose

    screen = console()
    screen.print(plain(f"{number}  ", "dim") + plain(asked.text, "bold"))
    panels = [Panel(plain(_text(each)), title=str(place)) for place, each in enumerate(replies, start=1)]
    if screen.is_terminal:
        screen.print(Columns(panels, equal=True, expand=True, width=max(30, screen.width // 2 - 2)))
    else:
        for place, each in enumerate(replies, start=1):
            screen.print(plain(f"[{place}] {_text(each)}"))
    key = await choose(say("eval which"), ("1", "2", "t", "b", "s", "q"), "s")
    return None if key == "q" else key


def _text(reply: Reply) -> str:
    from infra.evaluation.report import call_line

    lines = [*map(call_line, reply.calls), reply.text, reply.malformed, reply.trouble]
    return "\n".join(filter(None, lines)) or say("eval nothing")


def _vote(
    names: tuple[str, str], asked: _Asked, replies: Sequence[Reply], choice: Literal["1", "2", "tie", "bad"],
    first: Literal["a", "b"], by: str,
) -> Vote:  # fmt: skip
    from infra.evaluation.voting import Vote, choice_of

    return Vote(
        a=names[0], b=names[1], vote=choice_of(choice, first), prompt=asked.text, first=first,
        replies=(_text(replies[0]), _text(replies[1])), by=by,
    )  # fmt: skip


def votes(
    add: Annotated[
        list[Path] | None, typer.Option("--import", help="Take votes in from files of JSON lines.", show_default=False)
    ] = None,
    out: Out = KEPT, json: Json = False,
) -> None:  # fmt: skip
    """Say who stands where by the votes that are kept: Bradley-Terry ratings with intervals, wins, ties."""
    from infra.evaluation.voting import FILE, add_votes, read_votes, standings

    use_json(json)
    for each in [(file, _there(file)) for file in add or ()]:
        count = add_votes(out / FILE, each[1])
        if not as_json():
            console(stderr=True).print(plain(say("eval votes imported", count=count, file=each[0]), "dim"))
    found = read_votes(out / FILE)
    if as_json():
        print_json({"votes": len(found), "standings": [each.model_dump() for each in standings(found)]})
        return
    if not found:
        console(stderr=True).print(plain(say("eval no votes"), "dim"))
        return
    rows = [
        (
            f"{each.rating:.0f}", f"{each.low:.0f} … {each.high:.0f}", f"{each.won:.1%}", str(each.votes), str(each.bad),
            plain(each.name, "bold"),
        )
        for each in standings(found)
    ]  # fmt: skip
    columns = [say(f"eval votes {each}") for each in ("rating", "interval", "won", "votes", "bad", "name")]
    print_table(columns, rows, right=columns[:-1])  # the last one may be a folder's path, which is cut


def _there(file: Path) -> list[Vote]:
    from infra.evaluation.voting import read_votes

    if not file.is_file():
        raise MilepostError(f"{file} cannot be read.", why="there is no such file", hint="check the path")
    return read_votes(file)
