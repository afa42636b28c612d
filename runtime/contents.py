"""What the steps of a run say, without what differs from run to run by nature: ids, moments, references, how long it took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from runtime.fold import Folded
from runtime.log import Stored
from runtime.numbering import numbered, said_in
from runtime.prompt import build
from runtime.state import RunState
from schemas.canonical import canonical, digest
from schemas.commands import Generate
from schemas.envelope import Fact
from schemas.events import AnyEvent, Event
from schemas.ids import CommandId, RunId
from schemas.messages import Message
from schemas.tools import ToolCard

Content: TypeAlias = dict[str, object]

# What is no content, by the place where it stands; "*" is each item of a list. A plan, an approval or an answer is told by
# the step that states it, not by those that refer to it.
_NO_CONTENT: tuple[tuple[tuple[str, ...], frozenset[str]], ...] = (
    ((), frozenset({
        "kind", "key", "conversation", "parent", "fork", "behind", "after", "released", "attempt", "write_key", "grant", "call",
        "approval_hash", "fired", "catalog",
    })),
    (("command",), frozenset({
        "deadline", "expires", "at", "prompt_hash", "after", "inputs", "answer_of", "results_of", "plan", "approval", "answers",
        "asked", "write_key", "approval_hash", "conversation", "about", "host",
    })),
    (("command", "call"), frozenset({"id"})),
    (("command", "question"), frozenset({"id"})),
    (("command", "before"), frozenset({"run", "conversation", "at"})),
    (("before",), frozenset({"run", "conversation", "at"})),
    (("question",), frozenset({"id"})),
    (("failure",), frozenset({"attempts"})),
    (("generation",), frozenset({
        "first_token_ms", "total_ms", "waited_ms", "usage", "drafted", "accepted", "model_hash", "tokenizer_hash",
        "certificate",
    })),
    (("generation", "calls", "*"), frozenset({"id"})),
    (("history", "*"), frozenset({"run"})),
    (("similar", "*"), frozenset({"run"})),
    (("summary",), frozenset({"upto", "by"})),
    (("facts", "*"), frozenset({"source"})),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One fact of a run as it is compared.

    number: its place in the run as a receipt counts, from 1. event: what it says; of a copied answer, the answer; None if it
    was erased. asked: the kind of command that it answers, or its own. about: the tool that it is about, if any. content: what
    it says as JSON; key: equal for equal contents. prompt: of a model's turn, what is new in its prompt since the turn before:
    all of it at the first one, then what the model was told beside its own words and its tools' results, which are steps
    themselves.
    """

    number: int
    fact: Fact
    kind: str
    event: AnyEvent | None
    asked: str
    about: str
    content: Content = field(repr=False)
    key: str
    prompt: Content | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Steps:
    """A run taken apart: its steps, and the state that it comes to."""

    run: RunId
    steps: tuple[Step, ...]
    state: RunState


def steps_of(run: RunId, facts: Iterable[Stored]) -> Steps:
    """Fold a run, and take down what each of its facts says. A receipt is no step."""
    folded, prompts = Folded(RunState(run=run)), _Prompts()
    found: list[Step] = []
    for number, stored in numbered(facts):
        if number:
            found.append(_step(number, stored.fact, prompts.asked.get(CommandId(stored.fact.slot))))
        for decision in folded.add(stored):
            if isinstance(decision.command, Generate):
                prompts.remember(decision.id, folded.state)
    return Steps(run, tuple(found), folded.state)


def content_of(event: Event) -> Content:
    """An event as JSON with all that is no content left out."""
    content: Content = event.model_dump(mode="json")
    for path, names in _NO_CONTENT:
        _forget(content, path, names)
    if isinstance(result := content.get("result"), dict):
        _name_by_bytes(result.get("parts"))
    return content


def _step(number: int, fact: Fact, prompt: Content | None) -> Step:
    event = said_in(fact)
    if event is None:
        return Step(number, fact, fact.kind, None, fact.kind, "", {}, digest(fact.kind))
    kind, content = type(event).__name__, content_of(event)
    command = getattr(event, "command", None)
    asked, call = getattr(command, "kind", kind), getattr(command, "call", None)
    key = digest(kind, canonical(content))
    return Step(number, fact, kind, event, str(asked), str(call.name) if call else "", content, key, prompt)


def _forget(value: object, path: tuple[str, ...], names: frozenset[str]) -> None:
    if path and path[0] == "*":
        for each in value if isinstance(value, list) else ():
            _forget(each, path[1:], names)
    elif isinstance(value, dict) and path:
        _forget(value.get(path[0]), path[1:], names)
    elif isinstance(value, dict):
        for name in names & value.keys():
            del value[name]


def _name_by_bytes(parts: object) -> None:
    """A reference is made under a person's key; the digest beside it says the same of the bytes for everybody."""
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and part.get("sha256"):
            part.pop("ref", None)


class _Prompts:
    """The prompts of a run's generations; each of them extends the one before, so only what is new is taken down."""

    def __init__(self) -> None:
        self.asked: dict[CommandId, Content] = {}
        self._told = 0

    def remember(self, id: CommandId, state: RunState) -> None:
        if not self.asked:
            self.asked[id] = _opened(state)
        else:
            told = [each for each in state.messages[self._told :] if each.role in ("system", "user")]
            self.asked[id] = {"messages": [_message(each) for each in told]} if told else {}
        self._told = len(state.messages)


def _opened(state: RunState) -> Content:
    first = build(state)
    rest = first.model_dump(mode="json", exclude={"messages", "tools"})
    return {"messages": [_message(each) for each in first.messages], "tools": _cards(first.tools), **rest}


def _message(message: Message) -> Content:
    said: Content = {"role": message.role, "content": message.content}
    if message.name:
        said["name"] = message.name
    if message.calls:
        said["calls"] = [{"name": each.name, "arguments": each.arguments} for each in message.calls]
    return said | ({"tools": _cards(message.tools)} if message.tools else {})


def _cards(cards: Iterable[ToolCard]) -> Content:
    return {each.name: each.model_dump(mode="json", exclude={"name"}) for each in cards}
