"""What a run came to in numbers, and what it did to the world."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from runtime.contents import Step, Steps
from schemas.canonical import JsonObject
from schemas.commands import CallTool
from schemas.events import TERMINAL, EffectSettled, Event, Generated, StepFailed, ToolInDoubt, ToolReturned
from schemas.ids import settled_slot
from schemas.tools import ToolResult, call_key


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run took. model_ms: of its models, the time they worked and what they waited to begin; waited: for people;
    money: what its writes cost, by currency; writes: those that happened."""

    events: int = 0
    turns: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    model_ms: float = 0.0
    waited_s: float = 0.0
    wall_s: float | None = None
    calls: int = 0
    writes: int = 0
    money: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """A write: what was called, what came of it, at which event."""

    number: int
    tool: str
    arguments: JsonObject
    state: Literal["done", "repeated", "in doubt", "not done"]
    result: ToolResult | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """A write of either run, or of both. how: they did the same; the results differ; the arguments do; one alone did it."""

    how: Literal["same", "result", "arguments", "only a", "only b"]
    a: Done | None = None
    b: Done | None = None


def totals_of(run: Steps) -> Totals:
    """Count what a run took, as its log tells."""
    said = [step.event.generation for step in run.steps if isinstance(step.event, Generated)]
    calls = sum(
        isinstance(step.event, Event) and isinstance(getattr(step.event, "command", None), CallTool) for step in run.steps
    )
    return Totals(
        events=len(run.steps), turns=len(said), calls=calls, writes=run.state.writes,
        tokens_in=sum(each.usage.prompt_tokens for each in said), tokens_cached=sum(each.usage.cached_tokens for each in said),
        tokens_out=sum(each.usage.completion_tokens for each in said), model_ms=round(sum(each.total_ms for each in said), 1),
        waited_s=run.state.waited.total_seconds(), wall_s=_wall(run.steps),
        money={currency: f"{amount:f}" for currency, amount in sorted(run.state.spent.items())},
    )  # fmt: skip


def _wall(steps: Sequence[Step]) -> float | None:
    ended = next((step.fact.time for step in steps if isinstance(step.event, TERMINAL)), None)
    return max((ended - steps[0].fact.time).total_seconds(), 0.0) if ended else None


def writes_of(run: Steps) -> list[Done]:
    """The writes that a run called, in order, each with what is known of it at last."""
    settled = {step.fact.slot: step.event for step in run.steps if isinstance(step.event, EffectSettled)}
    found: list[Done] = []
    for step in run.steps:
        command = getattr(step.event, "command", None)
        if not isinstance(command, CallTool) or not command.write_key:
            continue
        number, call = step.number, command.call
        match step.event:
            case ToolReturned(result=result, repeated=repeated):
                found.append(Done(number, call.name, call.arguments, "repeated" if repeated else "done", result))
            case ToolInDoubt(failure=failure) | StepFailed(failure=failure):
                doubt = Done(number, call.name, call.arguments, "in doubt", note=failure.what)
                found.append(_settled(doubt, settled.get(settled_slot(step.fact.slot))))
    return found


def _settled(doubt: Done, known: Event | None) -> Done:
    if not isinstance(known, EffectSettled):
        return doubt
    return Done(doubt.number, doubt.tool, doubt.arguments, "done" if known.happened else "not done", known.result, known.note)


def effects(a: Iterable[Done], b: Iterable[Done]) -> tuple[Effect, ...]:
    """The writes of two runs beside each other: equal calls, then calls of the same tool, then what one alone did."""
    equal, only_a, only_b = _paired(a, b, lambda each: call_key(each.tool, each.arguments))
    alike, only_a, only_b = _paired(only_a, only_b, lambda each: each.tool)
    found = [Effect("same" if _came_to(one) == _came_to(other) else "result", one, other) for one, other in equal]
    found.extend(Effect("arguments", one, other) for one, other in alike)
    found.extend(Effect("only a", a=each) for each in only_a)
    found.extend(Effect("only b", b=each) for each in only_b)
    return tuple(sorted(found, key=lambda each: each.a.number if each.a else each.b.number if each.b else 0))


def _paired(
    a: Iterable[Done], b: Iterable[Done], name: Callable[[Done], str]
) -> tuple[list[tuple[Done, Done]], list[Done], list[Done]]:
    """The first of a name with the first of it, the second with the second; then what of each side is left."""
    waiting: defaultdict[str, deque[Done]] = defaultdict(deque)
    for each in b:
        waiting[name(each)].append(each)
    pairs: list[tuple[Done, Done]] = []
    left: list[Done] = []
    for each in a:
        if others := waiting[name(each)]:
            pairs.append((each, others.popleft()))
        else:
            left.append(each)
    return pairs, left, sorted((each for others in waiting.values() for each in others), key=lambda each: each.number)


def _came_to(done: Done) -> tuple[str, str]:
    state = "done" if done.state == "repeated" else done.state
    return state, done.result.text if done.result else ""
