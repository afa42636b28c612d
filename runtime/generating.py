"""The model's turn: its prompt is asked for, as long as the agent's budget lasts."""

from __future__ import annotations

from runtime import prompt
from runtime.ending import fail
from runtime.state import RunState, changed
from runtime.steps import Step, request_of
from schemas.commands import Generate
from schemas.events import Failure
from schemas.messages import Usage


def generate(state: RunState) -> Step:
    """Ask the model what comes next."""
    request = request_of(state)
    budget = request.agent.budget
    if state.steps >= budget.steps:
        return fail(state, Failure(
            type="BudgetExceeded", what=f"The run took {state.steps} model turns without an answer.",
            why="the agent's step budget is spent", hint="raise budget.steps of the agent, or ask in smaller pieces",
        ))  # fmt: skip
    if budget.tokens is not None and state.tokens >= budget.tokens:
        return fail(state, Failure(
            type="BudgetExceeded", what=f"The run read and wrote {state.tokens} tokens without an answer.",
            why=f"the agent's budget is {budget.tokens} tokens",
            hint="raise budget.tokens of the agent, or ask in smaller pieces",
        ))  # fmt: skip
    state, prompt_hash = prompt.digested(state)
    command = Generate(
        model=request.agent.model, host=request.agent.model_host, after=state.last_generate,
        inputs=state.inputs, prompt_hash=prompt_hash, sampling=request.agent.sampling,
        fallback=request.agent.fallback, priority=request.agent.priority,
    )  # fmt: skip
    return changed(state, phase="deciding", inputs=(), steps=state.steps + 1), (command,)


def used(state: RunState, usage: Usage) -> RunState:
    """The state after so many tokens more."""
    return changed(state, tokens=state.tokens + usage.prompt_tokens + usage.completion_tokens)
