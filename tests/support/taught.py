"""What holds of every lesson, whatever the conversation: it teaches each reply as serving shows and samples it."""

from __future__ import annotations

from hypothesis import strategies as st

from schemas.messages import Message, Prompt
from schemas.tools import ToolCall
from services.llm.chat import ChatFormat, encode, spelled
from services.llm.lesson import CONTEXT, END, MARKUP, lesson, lessons
from services.llm.tokenizer import Vocabulary
from services.llm.wire.form import Asked, Wire
from tests.support.marked import NOTE, WEATHER, result, said, user

# Names, words and values at whose edges tokens like to merge.
PIECES = [*"aZ0 \n\t{}[]\"'\\:,.<>|_-é北的🙂", "<|im_end|>", "<tool_call>", "get_weather", "}}", '"}', "\n\n", "Action: "]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6,
)  # fmt: skip
CALLS = st.builds(
    lambda name, arguments: ToolCall(id="c", name=name, arguments=arguments),
    st.sampled_from([WEATHER.name, NOTE.name]), st.dictionaries(TEXTS, VALUES, max_size=3),
)  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn) -> Prompt:
    """Several turns of users, calls with results, and answers; every reply may have calls, words, or both."""
    messages = [Message(role="system", content=draw(TEXTS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(user(draw(TEXTS)))
        for _ in range(draw(st.integers(0, 2))):
            calls = draw(st.lists(CALLS, min_size=1, max_size=2))
            messages.append(said(draw(TEXTS | st.just("")), *calls))
            messages += [result(call.name, draw(TEXTS)) for call in calls]
        messages.append(said(draw(TEXTS)))
    return Prompt(messages=tuple(messages), tools=(WEATHER, NOTE) if draw(st.booleans()) else ())


def before(prompt: Prompt, index: int) -> Prompt:
    return prompt.model_copy(update={"messages": prompt.messages[:index]})


def sampled(prompt: Prompt, index: int, wire: Wire, vocabulary: Vocabulary) -> list[int]:
    """A reply's tokens as serving makes them: what it must begin with is read in by itself (services/llm/turns.py)."""
    asked, message = before(prompt, index), prompt.messages[index]
    pieces = wire.said(
        message.content,
        [Asked(call.name, call.arguments) for call in message.calls],
        {card.name: card for card in asked.offered},
    )
    if message.calls and message.content:
        return spelled(pieces, vocabulary)
    told = message.calls or asked.offered or any(each.role == "tool" for each in asked.messages)
    return spelled(pieces[:1] if told else (), vocabulary) + spelled(pieces[1:], vocabulary)


def check_served(prompt: Prompt, chat: ChatFormat, wire: Wire, vocabulary: Vocabulary) -> None:
    """Of each reply every token is taught once, behind the prompt of the reply and what was said of it so far.

    Only markup at its end may be missing, where the prompts that follow read it otherwise.
    """
    made = lessons(prompt, chat, wire, vocabulary)
    assert made[0] == lesson(prompt, chat, wire, vocabulary)
    replies = [index for index, message in enumerate(prompt.messages) if message.role == "assistant"]
    taught = [{place for place, kind in enumerate(each.kinds) if kind not in (CONTEXT, END)} for each in made]
    for index in replies:
        shown, reply = encode(before(prompt, index), chat, wire, vocabulary), sampled(prompt, index, wire, vocabulary)
        times = [0] * len(reply)
        for each, places in zip(made, taught, strict=True):
            for place in [*places]:
                offset = place - len(shown)
                if 0 <= offset < len(reply) and [*each.tokens[: place + 1]] == shown + reply[: offset + 1]:
                    places.remove(place)
                    times[offset] += 1
        known = times.index(0) if 0 in times else len(times)
        assert times == [1] * known + [0] * (len(times) - known)
        alone = lesson(before(prompt, index + 1), chat, wire, vocabulary)
        assert set(alone.kinds[len(shown) + known : -1]) <= {MARKUP}
        assert [*alone.tokens[:-1]] == shown + reply
    assert not any(taught), "something is taught that is no reply as it is served"
    assert made[0].kinds[-1] == END
