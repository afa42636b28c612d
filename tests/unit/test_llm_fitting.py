"""Budgets of parts, to the token: what is cut, what never is, and that no less would have done."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.agent import Shares
from schemas.messages import Message, Part, Prompt
from schemas.tools import ToolCall, ToolCard
from services.llm.chat import CHATML, encode
from services.llm.fitting import CUTS, fitted
from services.llm.tokenizer import Vocabulary, tokenizer_from
from services.llm.weights import Weights
from services.llm.wire import WIRES
from tests.support.tiny_model import Tiny

Counter = Callable[[Prompt], int]
PARTS: tuple[Part, ...] = tuple(CUTS)
WORDS = Message(role="user", content="")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return Vocabulary(tokenizer_from(Weights(Tiny.random("qwen2", tied=True).write(path))))


@pytest.fixture(scope="module")
def count(vocabulary: Vocabulary) -> Counter:
    return lambda prompt: len(encode(prompt, CHATML, WIRES["json"], vocabulary))


def card(name: str, description: str = "does it") -> ToolCard:
    return ToolCard(name=name, description=description, parameters={"type": "object"})


def context(part: Part, text: str) -> Message:
    return Message(role="user", content=text, name=part, part=part)


def exchange(part: Part, text: str, *, noted: bool = False) -> Iterator[Message]:
    yield Message(role="user", content=f"{text}?", part=part)
    yield Message(role="assistant", content=f"{text}.", part=part)
    if noted:
        yield Message(role="user", content=f"(Results of the turn before: {text})", name="results", part=part)


def prompt_of(texts: dict[Part, list[str]], *, shares: dict[Part, int] | None = None, request: str = "renew it") -> Prompt:
    """A prompt whose parts have items of these texts."""
    said = {part: [f"{part} {number} {text}" for number, text in enumerate(texts.get(part, []))] for part in PARTS}
    found = (Message(role="user", content="", name="tools", part="tools", tools=(card(f"tool_{number}", text),))
             for number, text in enumerate(said["tools"]))  # fmt: skip
    messages = (
        Message(role="system", content="You are a helpful assistant."),
        *(message for text in said["examples"] for message in exchange("examples", text)),
        *(context("summary", text) for text in said["summary"]),
        *(context("facts", text) for text in said["facts"]),
        *(
            message
            for number, text in enumerate(said["history"])
            for message in exchange("history", text, noted=number % 2 == 0)
        ),
        *(context("similar", text) for text in said["similar"]),
        *found,
        *(context("passages", text) for text in said["passages"]),
        Message(role="user", content=request, origin="user"),
        Message(role="assistant", content="", calls=(ToolCall(id="c1", name="always", arguments={"n": 1}),)),
        Message(role="tool", content="what this run did", name="always"),
    )
    return Prompt(messages=messages, tools=(card("always"),), shares=shares or {})


def texts_of(prompt: Prompt, part: Part) -> list[str]:
    return [message.content or message.tools[0].name for message in prompt.messages if message.part == part]


def kept(prompt: Prompt) -> list[Message]:
    """What may never be cut."""
    return [message for message in prompt.messages if message.part is None]


def alone(prompt: Prompt, part: Part, count: Counter) -> int:
    """The tokens of a part as if it were all that is said."""
    said = tuple(message for message in prompt.messages if message.part == part)
    bare = {"tools": ()}
    return count(prompt.model_copy(update={"messages": (*said, WORDS), **bare})) - count(
        prompt.model_copy(update={"messages": (WORDS,), **bare})
    )  # fmt: skip


TEXTS = st.text(st.sampled_from("hello 续费🙂\n<|im_end|>"), max_size=40)
ITEMS = st.dictionaries(st.sampled_from(PARTS), st.lists(TEXTS, max_size=4))


@settings(max_examples=150, deadline=None)
@given(texts=ITEMS, shares=st.dictionaries(st.sampled_from(PARTS), st.integers(0, 200)))
def test_no_part_is_over_its_share_by_a_token_and_no_less_is_cut(
    count: Counter, texts: dict[Part, list[str]], shares: dict[Part, int]
) -> None:
    prompt = prompt_of(texts, shares=shares)
    fit, told = fitted(prompt, count, 1 << 20)
    assert kept(fit) == kept(prompt)
    for part in PARTS:
        before, after = texts_of(prompt, part), texts_of(fit, part)
        share = shares.get(part)
        if share is None or alone(prompt, part, count) <= share:
            assert after == before
            continue
        assert alone(fit, part, count) <= share
        assert after == (before[len(before) - len(after) :] if part in ("history", "similar") else before[: len(after)])
        assert any(CUTS[part].split("{}")[-1] in line for line in told)
        assert alone(_one_more(prompt, fit, part), part, count) > share


def _one_more(prompt: Prompt, fit: Prompt, part: Part) -> Prompt:
    """The cut prompt with the last item that was cut of a part put back."""
    said = [message for message in prompt.messages if message.part == part]
    left = len([message for message in fit.messages if message.part == part])
    if part in ("history", "similar"):
        begin = len(said) - left - 1
        while part == "history" and not (said[begin].role == "user" and said[begin].name is None):
            begin -= 1
        back = said[begin:]
    else:
        back = said[: left + (2 if part == "examples" else 1)]
    return Prompt(messages=tuple(back))


@settings(max_examples=100, deadline=None)
@given(texts=ITEMS, over=st.integers(0, 600))
def test_what_is_too_much_for_the_context_goes_in_the_stated_order(
    count: Counter, texts: dict[Part, list[str]], over: int
) -> None:
    prompt = prompt_of(texts)
    limit = max(0, count(prompt) - over)
    fit, told = fitted(prompt, count, limit)
    least, _ = fitted(prompt, count, 0)
    assert kept(fit) == kept(prompt) == list(least.messages)
    assert count(fit) <= limit or fit == least
    sizes = {part: (len(texts_of(prompt, part)), len(texts_of(fit, part))) for part in PARTS}
    cut = [part for part in PARTS if sizes[part][0] > sizes[part][1]]
    assert len(told) == len(cut)
    for part in PARTS[: PARTS.index(cut[-1])] if cut else ():
        assert sizes[part][1] == 0, f"{part} should have gone before {cut[-1]}"


@settings(max_examples=60, deadline=None)
@given(texts=ITEMS, limits=st.tuples(st.integers(0, 900), st.integers(0, 900)))
def test_more_room_never_leaves_less(count: Counter, texts: dict[Part, list[str]], limits: tuple[int, int]) -> None:
    prompt = prompt_of(texts)
    small, large = (fitted(prompt, count, limit)[0] for limit in sorted(limits))
    assert all(len(texts_of(small, part)) <= len(texts_of(large, part)) for part in PARTS)


def test_one_token_less_of_room_cuts_one_item(count: Counter) -> None:
    prompt = prompt_of({"history": ["a", "b", "c"], "passages": ["x", "y"]})
    room = count(prompt)
    assert fitted(prompt, count, room) == (prompt, ())
    fit, told = fitted(prompt, count, room - 1)
    assert told == ("the oldest 1 of 3 earlier turns",)
    assert texts_of(fit, "history")[0] == "history 1 b?"  # its note of results went with the turn


def test_what_is_cut_is_said_part_by_part(count: Counter) -> None:
    every = prompt_of({part: ["one", "two"] for part in PARTS})
    fit, told = fitted(every, count, 0)
    assert fit.messages == tuple(kept(every))
    assert told == (
        "the oldest 2 of 2 earlier turns",
        "the oldest 2 of 2 similar turns from long ago",
        "the last 2 of 2 passages from the documents",
        "the last 2 of 2 examples",
        "the last 2 of 2 tools found for the request",
        "the last 2 of 2 sentences of the summary",
        "the last 2 of 2 facts about the user",
    )
    assert [each.name for each in fit.offered] == ["always"]


def test_a_share_and_the_context_may_both_cut_a_part(count: Counter) -> None:
    texts: dict[Part, list[str]] = {"passages": ["x" * 20, "y" * 20, "z" * 20]}
    share = alone(prompt_of({"passages": texts["passages"][:2]}), "passages", count)
    prompt = prompt_of(texts, shares={"passages": share})
    fit, told = fitted(prompt, count, 1 << 20)
    assert (len(texts_of(fit, "passages")), told) == (2, ("the last 1 of 3 passages from the documents",))
    fit, told = fitted(prompt, count, count(fit) - 1)
    assert (len(texts_of(fit, "passages")), told) == (1, ("the last 2 of 3 passages from the documents",))


def test_a_prompt_that_fits_is_counted_once(count: Counter) -> None:
    counted = []
    prompt = prompt_of({"history": ["a"], "passages": ["b"]}, shares={"passages": 1000, "facts": 100})

    def counting(each: Prompt) -> int:
        counted.append(each)
        return count(each)

    assert fitted(prompt, counting, 10_000) == (prompt, ())
    assert all(each is prompt for each in counted)


def test_a_prompt_whose_messages_name_no_parts_is_cut_as_before(count: Counter) -> None:
    """Its turns are told by where they stand."""
    named = prompt_of({"history": ["a" * 9, "b"]}).messages
    bare = tuple(each.model_copy(update={"part": None}) for each in named if each.name != "results")
    fit, told = fitted(Prompt(messages=bare), count, count(Prompt(messages=bare)) - 1)
    assert told == ("the oldest 1 of 2 earlier turns",)
    assert fit.messages == (bare[0], *bare[3:])


def test_tools_in_the_system_message_are_cut_like_those_before_the_request(count: Counter) -> None:
    found = tuple(
        Message(role="system", content="", name="tools", part="tools", tools=(card(f"tool_{number}", "x" * 30),))
        for number in range(3)
    )
    system, *others = prompt_of({}).messages
    prompt = Prompt(messages=(system, *found, *others), tools=(card("always"),))
    fit, told = fitted(prompt, count, count(prompt) - 1)
    assert ([each.name for each in fit.offered], told) == (
        ["always", "tool_0", "tool_1"], ("the last 1 of 3 tools found for the request",),
    )  # fmt: skip


def test_the_stated_order_is_the_agents() -> None:
    """Shares names each part that has a share, and its docstring the order in which they are cut."""
    assert set(Shares.model_fields) | {"history"} == set(PARTS)
    said = Shares.__doc__ or ""
    words = ("turns of the history", "recalled as similar", "passages", "examples", "tools found", "the summary", "the facts")
    places = [said.index(each) for each in words]
    assert places == sorted(places)
