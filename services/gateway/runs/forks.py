"""Forks as pages ask for them: where a run can be left, what can be changed there, and leaving it. As `milepost fork` does."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, JsonValue, StringConstraints

from runtime.client import Client
from runtime.fork_answers import contents_of
from runtime.forking import Change, NotForked, Original, Reads, Told
from runtime.sealing import Erased
from schemas.agent import AgentSpec
from schemas.canonical import JsonObject, canonical
from schemas.events import TERMINAL, Answered, TurnStored
from schemas.tools import ToolCard, Value
from services.gateway.runs.view import Reading

EventNumber: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,7}$")]
_SHOWN = 80


class Answerable(Value):
    """An answer that a fork may give another content. content: what it says, without the command that it answers."""

    n: int
    type: str
    content: JsonObject


class Leaving(Value):
    """What a fork at an event may change. at: where the run can be left; nearest to the event that was named, if not there.

    answers: the one of that event, and the last ones before it.
    """

    run: str
    at: int
    exact: bool
    agent: AgentSpec
    answers: tuple[Answerable, ...]
    models: tuple[str, ...]


class ForkAsked(Value):
    """A fork to be made. at: the event after which it goes on by itself; without it, the last one that is answered otherwise.

    instructions, model: in place of the agent's; agent: another one altogether. tools: in place of those that were found.
    answers: by the event's number, what it says instead: `approve`, `refuse:WHY`, a text, or an object with its fields.
    reads: whether calls that only read may be made where the log has none. writes: told as planned, or as if they were done.
    """

    at: int | None = Field(default=None, ge=1, le=10_000_000)
    model: str | None = Field(default=None, min_length=1, max_length=200)
    instructions: str | None = Field(default=None, min_length=1, max_length=100_000)
    agent: AgentSpec | None = None
    tools: tuple[ToolCard, ...] | None = Field(default=None, max_length=128)
    answers: dict[EventNumber, JsonValue] = Field(default_factory=dict, max_length=64)
    reads: Reads | None = None
    writes: Literal["dry_run", "simulated"] | None = None


class Forked(Value):
    """The run that a fork began, and what is different in it."""

    run: str
    fork_of: str
    at: int
    changed: tuple[str, ...]


def original_of(reading: Reading) -> Original:
    """A run that can be left. Raises Erased, NotForked."""
    if reading.erased:
        raise Erased(f"run {reading.run}")
    return Original(reading.run, reading.both)


def leaving(original: Original, number: int, models: tuple[str, ...]) -> Leaving:
    """What a fork at an event may change; where nothing was decided, at the nearest one. Raises BeyondTheEnd, NotForked."""
    places = [told.number for told in original.told if told.decides]
    if not 1 <= number <= len(original.told) or not places:
        original.at(number)
    at = min(places, key=lambda place: (abs(place - number), place))
    answers = [each for each in original.told[: max(at, number)] if _answerable(each)][-_ANSWERS:]
    return Leaving(
        run=original.run, at=at, exact=at == number, agent=original.request.agent, models=models,
        answers=tuple(Answerable(n=each.number, type=type(each.body).__name__, content=_content(each)) for each in answers),
    )  # fmt: skip


_ANSWERS = 24


def _answerable(told: Told) -> bool:
    return told.copied and isinstance(told.body, Answered) and not isinstance(told.body, (*TERMINAL, TurnStored))


def _content(told: Told) -> JsonObject:
    said: JsonObject = told.body.model_dump(mode="json")
    return {name: value for name, value in said.items() if name != "command"}


def change_of(original: Original, asked: ForkAsked, by: str, models: tuple[str, ...]) -> tuple[int, Change]:
    """Where the run is left, and what is different then. Raises NotForked and its kinds, BadAnswer."""
    given = [f"{number}={_as_words(content)}" for number, content in asked.answers.items()]
    contents = contents_of(original, given, by)
    if asked.at is None and not contents:
        raise NotForked("Nothing says where the run is to be left.", hint="name an event: at, or one that answers otherwise")
    spec, words = _agent(original.request.agent, asked, models)
    if asked.tools is not None:
        words.append(f"tools: {', '.join(card.name for card in asked.tools)[:_SHOWN] or 'none'}")
    words += [f"event {number}: {text[:_SHOWN]}" for number, _, text in (each.partition("=") for each in given)]
    change = Change(agent=spec, tools=asked.tools, answers=contents, reads=asked.reads, writes=asked.writes, words=tuple(words))
    return asked.at if asked.at is not None else max(contents), change


def _as_words(content: JsonValue) -> str:
    return content if isinstance(content, str) else canonical(content).decode()


def _agent(before: AgentSpec, asked: ForkAsked, models: tuple[str, ...]) -> tuple[AgentSpec, list[str]]:
    if asked.agent is not None and asked.instructions is not None:
        raise NotForked("instructions and agent both say what the agent is told.", hint="write it into the agent")
    spec, words = asked.agent or before, []
    if asked.agent is not None:
        words.append(f"agent: {spec.name}")
    if asked.instructions is not None:
        spec = spec.model_copy(update={"instructions": asked.instructions})
        words.append("instructions")
    if asked.model is not None and asked.model != spec.model:
        if asked.model not in models:
            raise NotForked(f"There is no model {asked.model[:_SHOWN]!r} here.", why=f"there is {', '.join(models)}")
        words.append(f"model: {spec.model} -> {asked.model}")
        spec = spec.model_copy(update={"model": asked.model})
    return spec, words


async def forked(client: Client, original: Original, at: int, change: Change) -> Forked:
    """Begin it. Raises what `runtime.client.Client.fork` raises."""
    asked = await client.fork(original, at, change)
    return Forked(run=asked.run, fork_of=original.run, at=at, changed=change.words)
