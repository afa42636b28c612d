"""The prompt as a pure function of the run: what it begins with, then what was said in it; each extends the one before."""

from __future__ import annotations

from runtime.generators import INSTRUCTIONS
from runtime.opening import Opening, opening
from runtime.opening_before_3 import opening_before_3
from runtime.state import RunState, changed
from schemas.events import RunRequested
from schemas.messages import Manner, Message, Prompt, digest_asked, digest_opened, digest_said

__all__ = ["AFTER_RESULT_MARGIN", "FIRST_MARGIN", "INSTRUCTIONS", "build", "correction", "digested"]

# Measured on the default model: how much likelier than words a call must be (log-probability), see docs/results.md. The
# first one counts where retrieval does not say how the request leans.
FIRST_MARGIN = -1.0
AFTER_RESULT_MARGIN = 1.0
# After turns of mere talk the model goes on talking; so much less likely than words may a call be then.
TALKED_MARGIN = -6.0
MARGINS_OF_VERSION_1 = (-0.5, 4.0)


def build(state: RunState) -> Prompt:
    """The prompt of the next generation."""
    begun = _opening(state)
    return Prompt(
        messages=(*begun.messages, *state.messages),
        tools=begun.tools,
        sampling=_request(state).agent.sampling,
        call_margin=_margin(state),
        manner=_manner(state, begun, len(state.messages)),
        shares=begun.shares,
    )


def digested(state: RunState) -> tuple[RunState, str]:
    """The hash of the prompt that `build` gives, and the state that remembers how far it has been computed."""
    begun, known = state.prompt_digest, state.digested
    if not begun or _eased(state, known) != _eased(state, len(state.messages)):
        first, known = _opening(state), 0
        manner = _manner(state, first, len(state.messages))
        opened = digest_opened(first.tools, _request(state).agent.sampling, manner, first.shares)
        begun = digest_said(opened, first.messages)
    said = digest_said(begun, state.messages[known:])
    return changed(state, prompt_digest=said, digested=len(state.messages)), digest_asked(said, _margin(state))


def correction(why: str) -> Message:
    """What the model is told about a reply that was neither an answer nor a call."""
    return Message(role="user", content=f"Your reply could not be read: {why} Write it again.", name="parser", origin="system")


def _opening(state: RunState) -> Opening:
    return (opening_before_3 if state.before_3 else opening)(state, _request(state))


def _request(state: RunState) -> RunRequested:
    if state.request is None:
        raise ValueError("a run that was not requested has no prompt")
    return state.request


def _eased(state: RunState, said: int) -> bool:
    """Whether a client that wants one of its tools called has got that by so many messages: the model may answer then."""
    request = _request(state)
    if not request.brought or request.agent.manner.calls != "required":
        return False
    return any(message.role == "tool" for message in state.messages[:said])


def _manner(state: RunState, begun: Opening, said: int) -> Manner:
    return begun.manner.model_copy(update={"calls": "auto"}) if _eased(state, said) else begun.manner


def _margin(state: RunState) -> float:
    request = _request(state)
    unknown = state.leaning is None or bool(request.brought)  # retrieval knows nothing of what the client brings
    first = FIRST_MARGIN if unknown or state.leaning is None else -state.leaning
    if (state.history or request.said) and not state.before_3:
        first += TALKED_MARGIN
    margins = MARGINS_OF_VERSION_1 if state.decider == "1" else (first, AFTER_RESULT_MARGIN)
    told = (message for message in request.said if message.part is None)
    return margins[any(message.role == "tool" for message in (*told, *state.messages))]
