"""What can be computed of a run again: its state after an event, the prompt of a model's turn, and every decision of it."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import datetime
from typing import Literal

from pydantic import Field

from runtime.numbering import said_in
from runtime.prompt import build
from runtime.replay import replay
from runtime.sealing import Erased
from runtime.timeline import Language, call_line, short, summary
from runtime.travel import NoModelTurn
from schemas.canonical import JsonObject
from schemas.commands import AnyCommand, Generate
from schemas.envelope import Fact
from schemas.events import Generated, Passage, Turn, UserFact
from schemas.messages import Message, Prompt, Sampling, Usage
from schemas.tools import ToolCard, Value
from services.gateway.runs.view import Reading

_LINE = 200
_MESSAGES = 40
_TEXT = 4000


class Decided(Value):
    """A command in one line. answered: the number of the event that answers it, if one does. fresh: this event caused it."""

    id: str
    kind: str
    role: str
    line: str
    answered: int | None
    fresh: bool


class Said(Value):
    """A message of the run so far."""

    role: str
    name: str = ""
    text: str
    calls: tuple[str, ...] = ()


class UsedSoFar(Value):
    """What was used of the budget. money: by currency, as decimal text."""

    steps: int
    calls: int
    tokens: int
    writes: int
    money: dict[str, str]
    waited_s: float
    most_steps: int | None
    most_calls: int | None


class StateAt(Value):
    """What a run had come to after one of its events. outstanding: what was asked and not answered yet.

    said: how many messages there were; messages: the last of them.
    """

    run: str
    n: int
    type: str
    line: str
    phase: str
    outcome: str
    outstanding: tuple[Decided, ...]
    tools: tuple[str, ...]
    history: tuple[Turn, ...]
    facts: tuple[UserFact, ...]
    passages: tuple[Passage, ...]
    said: int
    messages: tuple[Said, ...]
    used: UsedSoFar


def state_at(reading: Reading, number: int, language: Language) -> StateAt:
    """The state after event `number`. Raises NoSuchEvent, Erased."""
    folded, fact = reading.folded(number), reading.both[reading.place(number)][0].fact
    state = folded.state
    if state.erased:
        raise Erased(f"run {reading.run}")
    later = {str(stored.fact.slot): stored.fact.id for stored, _ in reading.both[reading.place(number) + 1 :]}
    numbers = reading.numbers()
    budget = state.request.agent.budget if state.request else None
    return StateAt(
        run=reading.run, n=number, type=_kind(fact), line=summary(fact, language), phase=state.phase, outcome=state.outcome,
        outstanding=tuple(
            Decided(
                id=id, kind=command.kind, role=command.role, line=_brief(command), answered=numbers.get(str(later.get(id))),
                fresh=id in folded.open and folded.open[id].cause == fact.id,
            )
            for id, command in state.outstanding.items()
        ),
        tools=tuple(card.name for card in state.tools), history=(*state.history, *state.similar), facts=state.facts,
        passages=state.passages, said=len(state.messages),
        messages=tuple(_said(each) for each in state.messages[-_MESSAGES:]),
        used=UsedSoFar(
            steps=state.steps, calls=state.calls, tokens=state.tokens, writes=state.writes,
            money={currency: f"{amount:f}" for currency, amount in state.spent.items()},
            waited_s=state.waited.total_seconds(), most_steps=budget.steps if budget else None,
            most_calls=budget.calls if budget else None,
        ),
    )  # fmt: skip


def _said(message: Message) -> Said:
    return Said(
        role=message.role, name=message.name or "", text=message.content[:_TEXT], calls=tuple(map(call_line, message.calls))
    )


def _kind(fact: Fact) -> str:
    said = said_in(fact)
    return type(said).__name__ if said is not None else fact.kind


def _brief(command: AnyCommand) -> str:
    call = getattr(command, "call", None)
    if call is not None:
        return short(call_line(call), _LINE)
    return command.model if isinstance(command, Generate) else ""


# --- the prompt -----------------------------------------------------------------------------------


class Told(Value):
    """A message as the model saw it. tokens: its share of the whole prompt; see PromptAt.estimated."""

    role: str
    name: str = ""
    part: str = ""
    origin: str
    text: str
    calls: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    characters: int
    tokens: int | None


class Offered(Value):
    """A tool as the model saw it."""

    card: ToolCard
    characters: int
    tokens: int | None


class PromptAt(Value):
    """The prompt of a model's turn. n: the event that answers it; None: nothing has yet. asked: the one that led to it.

    same: whether it is, by its hash, what was asked then. usage: as the model counted; None without an answer. estimated:
    tokens of messages and tools are the counted whole, shared out by characters. left_out: what did not fit into the context.
    """

    run: str
    n: int | None
    asked: int
    since: datetime
    model: str
    same: bool
    messages: tuple[Told, ...]
    tools: tuple[Offered, ...]
    sampling: Sampling
    manner: JsonObject
    usage: Usage | None
    estimated: bool
    left_out: tuple[str, ...]
    reply: str
    calls: tuple[str, ...]
    first_token_ms: float | None
    total_ms: float | None
    waited_ms: float | None
    turns: tuple[int, ...] = Field(description="the numbers of all model turns of the run")


def prompt_at(reading: Reading, number: int) -> PromptAt:
    """The prompt that event `number` answers, or that it asked for. Raises NoSuchEvent, NoModelTurn, Erased."""
    said_at = {each: said_in(reading.both[reading.place(each)][0].fact) for each in range(1, reading.count + 1)}
    turns = [each for each, said in said_at.items() if isinstance(said, Generated)]
    reading.place(number)
    if reading.erased:
        raise Erased(f"run {reading.run}")
    asked = (reading.asked(number) if number in turns else None) or number
    folded, cause = reading.folded(asked), reading.both[reading.place(asked)][0].fact
    decision = next(
        (each for each in folded.open.values() if each.cause == cause.id and isinstance(each.command, Generate)), None
    )
    if decision is None or not isinstance(decision.command, Generate):
        raise NoModelTurn(reading.run, number, turns)
    answered = next((each for each in turns if reading.both[reading.place(each)][0].fact.slot == decision.id), None)
    said = said_at[answered] if answered else None
    generation = said.generation if isinstance(said, Generated) else None
    prompt = build(folded.state)
    messages, tools = _sized(prompt, generation.usage if generation else None)
    return PromptAt(
        run=reading.run, n=answered, asked=asked, since=cause.time,
        model=generation.model if generation and generation.model else decision.command.model,
        same=prompt.hash() == decision.command.prompt_hash, messages=messages, tools=tools, sampling=prompt.sampling,
        manner=prompt.manner.model_dump(mode="json"), usage=generation.usage if generation else None, estimated=True,
        left_out=generation.cut if generation else (), reply=generation.text if generation else "",
        calls=tuple(map(call_line, generation.calls)) if generation else (),
        first_token_ms=generation.first_token_ms if generation else None, turns=tuple(turns),
        total_ms=generation.total_ms if generation else None, waited_ms=generation.waited_ms if generation else None,
    )  # fmt: skip


def _sized(prompt: Prompt, usage: Usage | None) -> tuple[tuple[Told, ...], tuple[Offered, ...]]:
    """Messages and tools with their sizes: the tokens that the model counted, shared out by characters."""
    offered = prompt.offered
    texts = ["\n".join((each.content, *map(call_line, each.calls))) for each in prompt.messages]
    cards = [len(card.model_dump_json()) for card in offered]
    shares = _shared([*map(len, texts), *cards], usage.prompt_tokens if usage else None)
    messages = tuple(
        Told(
            role=each.role, name=each.name or "", part=each.part or "", origin=each.origin, text=each.content,
            calls=tuple(map(call_line, each.calls)), offers=tuple(card.name for card in each.tools), characters=len(text),
            tokens=tokens,
        )
        for each, text, tokens in zip(prompt.messages, texts, shares, strict=False)
    )  # fmt: skip
    tools = zip(offered, cards, shares[len(texts) :], strict=True)
    return messages, tuple(Offered(card=card, characters=size, tokens=tokens) for card, size, tokens in tools)


def _shared(sizes: list[int], whole: int | None) -> list[int | None]:
    """A whole in parts by size, which add up to it (largest remainders)."""
    total = sum(sizes)
    if whole is None or not total:
        return [None] * len(sizes)
    exact = [size * whole / total for size in sizes]
    parts = [math.floor(each) for each in exact]
    for index in sorted(range(len(sizes)), key=lambda each: parts[each] - exact[each])[: whole - sum(parts)]:
        parts[index] += 1
    return list(parts)


# --- the replay -----------------------------------------------------------------------------------


class Odd(Value):
    """Something odd in a log (runtime.replay.Note)."""

    kind: Literal["open", "clock", "second"]
    event: int
    detail: str = ""


class Verdict(Value):
    """What a replay came to. divergence: the first decision that is another one now, as runtime.divergence tells it."""

    run: str
    same: bool
    events: int
    decisions: int
    answered: int
    outcome: str
    decider: str
    divergence: JsonObject | None
    notes: tuple[Odd, ...]


def replayed(reading: Reading) -> Verdict:
    """Make every decision again from the log alone, and compare. Raises Erased."""
    found = replay(reading.run, reading.facts)
    if found.erased:
        raise Erased(f"run {reading.run}")
    return Verdict(
        run=found.run, same=found.same, events=found.events, decisions=found.decisions, answered=found.answered,
        outcome=found.outcome, decider=found.decider, divergence=asdict(found.divergence) if found.divergence else None,
        notes=tuple(Odd(kind=each.kind, event=each.event, detail=each.detail) for each in found.notes),
    )  # fmt: skip
