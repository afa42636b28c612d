"""What a prompt begins with: its parts, in an order in which what stays the same stands first.

System message and tools that are always offered, examples; the summary and the turns of the conversation; then facts about
the user, older turns and whatever else was found for this request, and the request. Only the cards of tools found for the
request stand where the agent wants them. Whatever may be left out is a message of its own that names its part, so that the
service with the tokenizer can cut to the token (services/llm/fitting.py) without reading any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from runtime.generators import GENERATORS, Generator
from runtime.state import RunState
from schemas.agent import AgentSpec
from schemas.events import Passage, RunRequested, Turn, TurnResult
from schemas.messages import Manner, Message, Origin, Part
from schemas.tools import ToolCard

SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")
# What some family of models reads as the end of a message, a role, or tools. The service never reads text as special
# tokens, but a model elsewhere gets text alone.
MARKS = re.compile(
    r"<(?=\||/?(?:s|think|tools?|tool_call|tool_response|start_of_turn|end_of_turn)[\s/>]|<?/?SYS>)|\[(?=/?INST\])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Opening:
    """A prompt up to the request. tools: those that are always offered."""

    tools: tuple[ToolCard, ...]
    messages: tuple[Message, ...]
    manner: Manner
    shares: dict[Part, int] = field(default_factory=dict)


def opening(state: RunState, request: RunRequested) -> Opening:
    """The beginning of all prompts of a run."""
    agent = request.agent
    generator = GENERATORS[agent.prompt]
    always, found = offered(state.tools, agent, request.brought)
    before = tuple(_as_told(each, generator) for each in request.said if each.part == "history")
    after = (_as_told(each, generator) for each in request.said if each.part is None)
    in_system = agent.found_tools == "system"
    cards = tuple(_found(card, "system" if in_system else "user") for card in found)
    return Opening(
        tools=always,
        messages=(
            _system(agent, generator),
            *(cards if in_system else ()),
            *(_example(message, generator) for message in agent.examples),
            *_told(state),
            *(before or (message for turn in state.history for message in _turn(turn, generator))),
            *_known(state),
            *(message for turn in state.similar for message in _similar(turn)),
            *(() if in_system else cards),
            *_passages(state.passages, generator),
            _asked(request.task, generator),
            *after,
        ),
        manner=_manner(agent, generator),
        shares=dict(agent.shares),  # type: ignore[arg-type]  # the fields of Shares are parts
    )


def offered(
    cards: Iterable[ToolCard], agent: AgentSpec, brought: Sequence[ToolCard] = ()
) -> tuple[tuple[ToolCard, ...], tuple[ToolCard, ...]]:
    """The tools that are always there, the client's and then the agent's own in its order, and those found, the best first."""
    by_name: dict[str, ToolCard] = {}
    for card in cards:
        by_name.setdefault(card.name, card)  # of one name, the first: so does the run that calls it
    names = (*(card.name for card in brought), *agent.tools)
    always = {name: by_name[name] for name in names if name in by_name}
    return tuple(always.values()), tuple(card for name, card in by_name.items() if name not in always)


def quoted(text: str) -> str:
    """Somebody else's text: each line behind a mark, so that none can be taken for ours, and no sign of a role in it."""
    lines = MARKS.sub(lambda mark: f"{mark[0]} ", text.strip()).splitlines()
    return "\n".join(f"> {line}".rstrip() for line in lines)


def one_line(text: str) -> str:
    """Somebody else's text where only a line of it has room."""
    return " ".join(MARKS.sub(lambda mark: f"{mark[0]} ", text).split())


def _system(agent: AgentSpec, generator: Generator) -> Message:
    lines = (generator.instructions, agent.instructions)
    return Message(role="system", content="\n".join(line for line in lines if line), origin="system")


def _example(message: Message, generator: Generator) -> Message:
    asked = generator.asked if message.role == "user" else ""
    name = message.name if message.role == "tool" else None
    return message.model_copy(
        update={"content": asked + message.content, "part": "examples", "tools": (), "name": name, "origin": "system"}
    )


def _told(state: RunState) -> Iterator[Message]:
    texts = _sentences(state.summary.text) if state.summary else ()
    return _listed("summary", "Earlier in this conversation:", texts, "model")


def _known(state: RunState) -> Iterator[Message]:
    return _listed("facts", "About the user:", (f"{fact.key}: {fact.text}" for fact in state.facts), "retrieved")


def _listed(part: Part, heading: str, texts: Iterable[str], origin: Origin) -> Iterator[Message]:
    """A message for each text, of which the last can be left out first; the heading goes with the first."""
    for number, text in enumerate(texts):
        line = f"> {one_line(text)}"
        yield _context(part, line if number else f"{heading}\n{line}", origin)


def _sentences(text: str) -> list[str]:
    return [sentence for line in text.splitlines() for sentence in SENTENCE.split(line) if sentence.strip()]


def _turn(turn: Turn, generator: Generator) -> Iterator[Message]:
    yield Message(role="user", content=generator.asked + turn.task, origin="user", part="history")
    yield Message(role="assistant", content=turn.answer, origin="model", part="history")
    if shown := [_result(result) for result in turn.results if result.ref]:
        text = f"(Results of the turn before: {'; '.join(shown)})"
        yield Message(role="user", content=text, name="results", origin="tool", part="history")


def _as_told(message: Message, generator: Generator) -> Message:
    """A message of before, as the client tells it: whose words they are follows from its role, whatever it says of that."""
    origins: dict[str, Origin] = {"user": "user", "assistant": "model", "tool": "tool"}
    asked = generator.asked if message.role == "user" else ""
    name = message.name if message.role == "tool" else None
    update = {"content": asked + message.content, "name": name, "origin": origins.get(message.role, "user"), "tools": ()}
    return message.model_copy(update=update)


def _result(result: TurnResult) -> str:
    """What a later call needs of a file: its reference, and by what a person may mean it."""
    what = one_line(f"{result.tool} {result.media_type or result.kind} {result.ref or ''}")
    about = one_line(result.text)[:80]
    return f"{what} ({about})" if about and about not in what else what


def _similar(turn: Turn) -> Iterator[Message]:
    text = f"Long ago in this conversation the user asked:\n{quoted(turn.task)}\nand was answered:\n{quoted(turn.answer)}"
    shown = "; ".join(_result(result) for result in turn.results if result.ref)
    yield _context("similar", f"{text}\n(Results: {shown})" if shown else text, "retrieved")


def _passages(passages: Iterable[Passage], generator: Generator) -> Iterator[Message]:
    for number, passage in enumerate(passages, start=1):
        text = f"[{number}] {source(passage)}\n{quoted(passage.text)}"
        yield _context("passages", text if number > 1 else f"{generator.passages}\n{text}", "retrieved")


def source(passage: Passage) -> str:
    """Where a passage stands, as a person would say it."""
    where = (passage.title, passage.heading) if passage.heading not in ("", passage.title) else (passage.title,)
    return one_line(" > ".join(where))


def _asked(task: str, generator: Generator) -> Message:
    return Message(role="user", content=generator.asked + task, origin="user")


def _context(part: Part, content: str, origin: Origin) -> Message:
    """Something that stands before the words of the user."""
    return Message(role="user", content=content, name=part, origin=origin, part=part)


def _found(card: ToolCard, role: Literal["system", "user"]) -> Message:
    return Message(role=role, content="", name="tools", origin="retrieved", part="tools", tools=(card,))


def _manner(agent: AgentSpec, generator: Generator) -> Manner:
    if agent.manner.wire != "model" or generator.wire == "model":
        return agent.manner
    return agent.manner.model_copy(update={"wire": generator.wire})
