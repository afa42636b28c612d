"""The prompt as a pure function of the run: static parts first, so that prompts share their beginnings."""

from __future__ import annotations

from runtime.state import RunState, changed
from schemas.agent import AgentSpec
from schemas.events import Passage, RunRequested, Turn
from schemas.messages import Message, Prompt, digest_asked, digest_opened, digest_said

# Measured on the default model: how much likelier than words a call must be (log-probability), see docs/results.md. The
# first one counts where retrieval does not say how the request leans.
FIRST_MARGIN = -1.0
AFTER_RESULT_MARGIN = 1.0
MARGINS_OF_VERSION_1 = (-0.5, 4.0)

# Short on purpose: every further word about tools makes a small model call one after "Thanks!".
INSTRUCTIONS = "You are a helpful assistant. Answer in the user's language."


def build(state: RunState) -> Prompt:
    """The prompt of the next generation: system, history, request with its passages, then what was said since."""
    if state.request is None:
        raise ValueError("a run that was not requested has no prompt")
    return Prompt(
        messages=(*_beginning(state, state.request), *state.messages),
        tools=state.tools,
        sampling=state.request.agent.sampling,
        call_margin=_margin(state),
        manner=state.request.agent.manner,
    )


def digested(state: RunState) -> tuple[RunState, str]:
    """The hash of the prompt that `build` gives, and the state that remembers how far it has been computed."""
    if state.request is None:
        raise ValueError("a run that was not requested has no prompt")
    begun = state.prompt_digest
    if not begun:
        agent = state.request.agent
        opened = digest_opened(state.tools, agent.sampling, agent.manner)
        begun = digest_said(opened, _beginning(state, state.request))
    said = digest_said(begun, state.messages[state.digested :])
    return changed(state, prompt_digest=said, digested=len(state.messages)), digest_asked(said, _margin(state))


def correction(why: str) -> Message:
    """What the model is told about a reply that was neither an answer nor a call."""
    return Message(role="user", content=f"Your reply could not be read: {why} Write it again.", name="parser", origin="system")


def _margin(state: RunState) -> float:
    first = FIRST_MARGIN if state.leaning is None else -state.leaning
    margins = MARGINS_OF_VERSION_1 if state.decider == "1" else (first, AFTER_RESULT_MARGIN)
    return margins[any(message.role == "tool" for message in state.messages)]


def _beginning(state: RunState, request: RunRequested) -> tuple[Message, ...]:
    history = (message for turn in state.history for message in _turn(turn))
    return (_system(request.agent), *history, _request(request.task, state.passages))


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
