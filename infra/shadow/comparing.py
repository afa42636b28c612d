"""Two answers to one question, compared as the courses of runs are: what the log says, and what a candidate said."""

from __future__ import annotations

import json
from collections.abc import Mapping

from schemas.messages import Generation
from schemas.policy import Outcome, Verdict
from schemas.tools import Effect, ToolResult
from services.evaluation.agreement import Agreement, agreement
from services.evaluation.course import Action, Course, Ending, Fate, Spending

_FATES: dict[Outcome, Fate] = {"deny": "denied", "dry_run": "tried", "allow": "unknown"}
"""What becomes of a call by its verdict; of one that is let through, nobody knows here."""


def generations(recorded: Generation, driven: Generation, effects: Mapping[str, Effect], event: int) -> Agreement:
    """What two models said to one prompt. effects: of the tools that were offered, by name."""
    return agreement(_spoken(recorded, effects, event), _spoken(driven, effects, event))


def _spoken(said: Generation, effects: Mapping[str, Effect], event: int) -> Course:
    calls = () if said.malformed else said.calls
    actions = tuple(
        Action(step=1, event=event, tool=call.name, arguments=call.arguments, effect=effects.get(call.name)) for call in calls
    )
    ending: Ending = "failed" if said.malformed else "open" if calls else "completed"
    seconds = said.total_ms / 1000
    spending = Spending(
        generations=1, tokens=said.usage.prompt_tokens + said.usage.completion_tokens, cached=said.usage.cached_tokens,
        models_s=seconds, seconds=seconds,
    )  # fmt: skip
    return Course(
        steps=1, actions=actions, ending=ending, answer=said.text if ending == "completed" else None, spending=spending
    )


def verdicts(action: Action, recorded: Verdict, driven: Verdict) -> Agreement:
    """What two sets of rules make of one write."""
    return agreement(_judged(action, recorded), _judged(action, driven))


def _judged(action: Action, verdict: Verdict) -> Course:
    found = action.model_copy(update={"verdict": verdict.outcome, "fate": _FATES.get(verdict.outcome, "not done")})
    return Course(steps=1, actions=(found,), ending="open", answer=None, spending=Spending())


def results(action: Action, recorded: ToolResult, driven: ToolResult | None, seconds: tuple[float, float]) -> Agreement:
    """What two versions of a tool say to one call; None: that it failed.

    Other values in the same form are other words: a read tells of its moment. Another form is another outcome.
    """
    found = agreement(_returned(action, recorded, seconds[0]), _returned(action, driven, seconds[1]))
    if driven is not None and found.risk == "answer" and _form(_value(recorded)) != _form(_value(driven)):
        return found.model_copy(update={"risk": "outcome"})
    return found


def _returned(action: Action, result: ToolResult | None, seconds: float) -> Course:
    done = action.model_copy(update={"fate": "done" if result else "failed"})
    return Course(
        steps=1, actions=(done,), ending="completed" if result else "failed", answer=result.text if result else None,
        spending=Spending(seconds=seconds),
    )  # fmt: skip


def _value(result: ToolResult) -> object:
    """What a program reads of a result: its parts in JSON, else its text if that is JSON, else the kinds of its parts."""
    values = [part.json_value for part in result.parts if part.json_value is not None]
    if values:
        return values
    try:
        return [json.loads(result.text)]
    except ValueError:
        return [part.kind for part in result.parts] or ["text"]


def _form(value: object) -> object:
    """A value without its values: names of fields, and kinds; of a list, the kinds that occur in it."""
    if isinstance(value, dict):
        return {name: _form(each) for name, each in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(_form(each), sort_keys=True) for each in value})
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
