"""Recorded runs as examples: which are fit to be learnt from, and the turns of a conversation as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from runtime import prompt
from runtime.state import RunState
from schemas.messages import Message
from services.datasets.example import Example

Unfit: TypeAlias = Literal["not completed", "unreadable reply", "in doubt", "nothing was said", "erased", "cannot be read"]
"""Why a run is not learnt from."""


def unfit(state: RunState) -> Unfit | None:
    """Why nothing should be learnt from a run; None: it may."""
    if state.erased:
        return "erased"
    if state.outcome != "completed":
        return "not completed"
    if any(message.name == "parser" for message in state.messages):
        return "unreadable reply"
    if state.doubts:
        return "in doubt"
    return (
        None
        if any(each.role == "assistant" and (each.content or each.calls) for each in state.messages)
        else "nothing was said"
    )


def example_of(id: str, turns: Sequence[RunState]) -> Example:
    """The turns of one conversation, oldest first, as an example; what memory recalled stands in the turns themselves.

    The system message is that of the last turn; offered are all tools that any turn was offered. Raises ValueError for no
    turns, or one without a request.
    """
    if not turns:
        raise ValueError("a conversation has at least one turn")
    prompts = [prompt.build(state) for state in turns]
    system = next((each.content for each in prompts[-1].messages if each.role == "system" and each.part is None), "")
    offered = {card.name: card for each in prompts for card in each.offered}
    messages = [message for state, each in zip(turns, prompts, strict=True) for message in _turn(state, each.messages)]
    return Example(id, tuple(state.run for state in turns), system, tuple(offered.values()), tuple(messages))


def _turn(state: RunState, messages: Iterable[Message]) -> list[Message]:
    """What was found for the request and the request, as one message; then what the run said and was told."""
    passages = [each.content for each in messages if each.part == "passages"]
    task = state.request.task if state.request else ""
    asked = Message(role="user", content="\n\n".join(["\n".join(passages), task] if passages else [task]), origin="user")
    return [asked, *state.messages]
