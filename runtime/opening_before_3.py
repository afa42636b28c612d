"""What prompts began with when deciders 1 and 2 decided: their runs go on with it, to the byte."""

from __future__ import annotations

from runtime.opening import Opening
from runtime.state import RunState
from schemas.agent import AgentSpec
from schemas.events import Passage, RunRequested, Turn
from schemas.messages import Message

INSTRUCTIONS = "You are a helpful assistant. Answer in the user's language."


def opening_before_3(state: RunState, request: RunRequested) -> Opening:
    """System, history, the request with its passages; all tools stand in the system message."""
    history = (message for turn in state.history for message in _turn(turn))
    messages = (_system(request.agent), *history, _request(request.task, state.passages))
    return Opening(tools=state.tools, messages=messages, manner=request.agent.manner)


def _system(agent: AgentSpec) -> Message:
    content = f"{INSTRUCTIONS}\n{agent.instructions}" if agent.instructions else INSTRUCTIONS
    return Message(role="system", content=content, origin="system")


def _turn(turn: Turn) -> tuple[Message, Message]:
    return (
        Message(role="user", content=turn.task, origin="user"),
        Message(role="assistant", content=turn.answer, origin="model"),
    )


def _request(task: str, passages: tuple[Passage, ...]) -> Message:
    if not passages:
        return Message(role="user", content=task, origin="user")
    shown = "\n".join(f"[{_source(passage)}] {passage.text}" for passage in passages)
    content = f"Passages from the documents, each after its [source]:\n{shown}\n\nQuestion: {task}"
    return Message(role="user", content=content, origin="retrieved")


def _source(passage: Passage) -> str:
    return passage.title if passage.heading in ("", passage.title) else f"{passage.title} > {passage.heading}"
