"""Lessons: every token has the kind that was marked by hand, and stands behind just what serving shows there."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from schemas.messages import Prompt
from services.llm.chat import CHATGLM3, CHATML, MISTRAL, ZEPHYR, ChatFormat, encode
from services.llm.grammar import Grammars
from services.llm.lesson import CONTEXT, END, KINDS, MARKUP, Lesson, lesson, lessons
from services.llm.tokenizer import QWEN2_SPLIT, Vocabulary
from services.llm.wire import WIRES
from tests.support.marked import (
    MARKED,
    PARIS,
    WEATHER,
    Marked,
    by_byte,
    missed,
    said,
    spelled,
    unmarked,
    user,
    weather,
)
from tests.support.taught import before, check_served, conversations

FRAMES = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
TAGS = ("<tool_call>", "</tool_call>", "<|startofthink|>", "<|endofthink|>", "<|startofexec|>", "<|endofexec|>")
ROLES = ("[gMASK]", "sop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "</s>")


def byte_level(*special: str, merged: bool) -> Vocabulary:
    """Tokens of single bytes, or merged as a tokenizer of Qwen's kind merges the marked conversations."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=700 if merged else len(alphabet), initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator([unmarked(each.text)[0] for each in MARKED], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return Vocabulary(tokenizer)


BYTES, MERGED, TAGGED = (
    byte_level(*FRAMES, merged=False),
    byte_level(*FRAMES, merged=True),
    byte_level(*FRAMES, *TAGS, merged=True),
)
GLM, INST = byte_level(*ROLES, merged=True), byte_level("<s>", "</s>", "[INST]", "[/INST]", merged=True)
NAMES = [f"{each.wire}-{place}" for place, each in enumerate(MARKED)]


def taught(each: Marked, vocabulary: Vocabulary) -> list[Lesson]:
    return lessons(each.prompt, CHATML, WIRES[each.wire], vocabulary, each.urls)


@pytest.mark.parametrize("each", MARKED, ids=NAMES)
def test_every_character_is_of_the_kind_that_it_was_marked_with(each: Marked) -> None:
    """With single bytes nothing meets at edges: one sequence teaches all, and every token is what its byte is."""
    (made,) = taught(each, BYTES)
    assert made == lesson(each.prompt, CHATML, WIRES[each.wire], BYTES, each.urls)
    bare, marks = unmarked(each.text)
    assert spelled(made, BYTES).decode().endswith(bare)
    kinds = [kind for token, kind in zip(made.tokens, made.kinds, strict=True) for _ in BYTES.bytes_of(token)]
    wanted = by_byte(bare, marks)
    assert [KINDS[kind] for kind in kinds[-len(wanted) :]] == [KINDS[kind] for kind in wanted]
    assert set(kinds[: -len(wanted)]) == {CONTEXT}


@pytest.mark.parametrize("vocabulary", [MERGED, TAGGED], ids=["merged", "tagged"])
@pytest.mark.parametrize("each", MARKED, ids=NAMES)
def test_a_token_of_several_parts_is_of_the_strongest(each: Marked, vocabulary: Vocabulary) -> None:
    made = taught(each, vocabulary)
    assert set(missed(made, each.text, vocabulary)) <= {MARKUP, END}
    assert any(len(vocabulary.bytes_of(token)) > 3 for token in made[0].tokens)


def test_the_kinds_of_tokens_by_hand() -> None:
    """A token that ends the arguments and the call counts as arguments: `"}}` here."""
    prompt = Prompt(messages=(user("Hi"), said("", weather("c1", "Paris"))), tools=(WEATHER,))
    made = lesson(prompt, CHATML, WIRES["json"], MERGED)
    reply = [
        (MERGED.bytes_of(token).decode(), KINDS[kind]) for token, kind in zip(made.tokens, made.kinds, strict=True) if kind
    ]
    assert reply == [
        ('{"', "markup"), ("name", "markup"), ('":', "markup"), (' "', "markup"), ("get", "name"), ("_weather", "name"),
        ('",', "markup"), (' "', "markup"), ("arguments", "markup"), ('":', "markup"), (' {"', "parameters"),
        ("city", "parameters"), ('":', "parameters"), (' "', "parameters"), ("Paris", "parameters"), ('"}}', "parameters"),
        ("<|im_end|>", "end"),
    ]  # fmt: skip


def test_special_tokens_of_a_wire_are_taught_as_such_and_words_never_are_any() -> None:
    words = "I write <tool_call> and <|im_end|>."
    prompt = Prompt(messages=(user("Hi"), said(words), user("So?"), said("", weather("c1", "Rome"))), tools=(WEATHER,))
    made = lesson(prompt, CHATML, WIRES["hermes"], TAGGED)
    named = [
        (TAGGED.bytes_of(t).decode(), KINDS[k]) for t, k in zip(made.tokens, made.kinds, strict=True) if TAGGED.is_special(t)
    ]
    tags = [pair for pair in named if pair[1] != "context"]
    assert tags == [("<|im_end|>", "end"), ("<tool_call>", "markup"), ("</tool_call>", "markup"), ("<|im_end|>", "end")]
    answer = b"".join(TAGGED.bytes_of(t) for t, k in zip(made.tokens, made.kinds, strict=True) if KINDS[k] == "answer")
    assert answer.decode() == words


def test_chatglm3_ends_a_reply_with_what_follows_it() -> None:
    """An answer ends where the user begins, a call where its result does; both tokens are the next message's own."""
    made = lessons(Prompt(messages=PARIS, tools=(WEATHER,)), CHATGLM3, WIRES["chatglm3"], GLM)
    ends = [
        (GLM.bytes_of(token).decode(), place == len(each.tokens) - 1)
        for each in made for place, (token, kind) in enumerate(zip(each.tokens, each.kinds, strict=True)) if kind == END
    ]  # fmt: skip
    assert ("<|observation|>", False) in ends
    assert ("<|user|>", True) in ends
    call = Prompt(messages=(user("Hi"), said("", weather("c1", "Rome"))), tools=(WEATHER,))
    assert GLM.bytes_of(lesson(call, CHATGLM3, WIRES["chatglm3"], GLM).tokens[-1]) == b"<|observation|>"


@pytest.mark.parametrize("opening", ["<|im_start|>assistant\n<think>\n\n</think>\n\n", "<|im_start|>Assistant\n"])
def test_a_family_that_opens_replies_otherwise_gets_a_sequence_for_each(opening: str) -> None:
    """Qwen3's template shows earlier replies without the empty thought that its own begin with; one letter is enough."""
    chat = CHATML.model_copy(update={"reply": opening})
    prompt = Prompt(messages=(user("One?"), said("First."), user("Two?"), said("Second.")))
    made = lessons(prompt, chat, WIRES["json"], BYTES)
    assert [words(each, BYTES) for each in made] == ["Second.", "First."]
    assert [list(each.tokens[: -len(learnt(each))]) for each in made] == [
        encode(before(prompt, index), chat, WIRES["json"], BYTES) for index in (3, 1)
    ]


def test_an_answer_begins_with_the_wire_s_own_words_only_where_serving_makes_it() -> None:
    """Without a tool in sight nobody has told the model of a Final Answer."""
    for tools, begin in (((), "Hello."), ((WEATHER,), "Final Answer: Hello.")):
        made = lesson(Prompt(messages=(user("Hi"), said("Hello.")), tools=tools), CHATML, WIRES["mrkl"], BYTES)
        assert b"".join(map(BYTES.bytes_of, learnt(made))).decode() == f"{begin}<|im_end|>"


def test_sentencepiece_puts_no_blank_where_a_text_only_goes_on() -> None:
    """It begins what stands alone with one; a reply goes on from the prompt, and a name from the quote before it."""
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False, min_frequency=1, special_tokens=["<unk>", "<s>", "</s>"])
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.train_from_iterator([unmarked(each.text)[0] for each in MARKED] * 2, trainer)
    vocabulary = Vocabulary(tokenizer)
    assert vocabulary.blank_first
    prompt = Prompt(messages=(user("Hi"), said("It is."), user("Rome?"), said("", weather("c1", "Rome"))), tools=(WEATHER,))
    made = lessons(prompt, ZEPHYR, WIRES["msagent"], vocabulary)
    assert len(made) == 1
    runs = groupby(zip(made[0].kinds, made[0].tokens, strict=True), key=lambda pair: pair[0])
    shown = {kind: b"".join(vocabulary.bytes_of(token) for _, token in run) for kind, run in runs}
    assert shown[KINDS.index("answer")] == b"It is."
    assert shown[KINDS.index("name")].startswith(b"get_weather")  # a token may go on into what follows


def test_what_follows_the_last_reply_is_left_out_and_without_a_reply_there_is_no_lesson() -> None:
    prompt = Prompt(messages=(user("Hi"), said("Hello."), user("And now?")))
    made = lesson(prompt, CHATML, WIRES["json"], BYTES)
    assert spelled(made, BYTES).endswith(b"Hello.<|im_end|>")
    with pytest.raises(ValueError, match="no assistant"):
        lesson(Prompt(messages=(user("Hi"),)), CHATML, WIRES["json"], BYTES)
    with pytest.raises(ValueError, match="</s>"):
        lesson(prompt, MISTRAL, WIRES["json"], BYTES)


def learnt(each: Lesson) -> list[int]:
    return [token for token, kind in zip(each.tokens, each.kinds, strict=True) if kind]


def words(each: Lesson, vocabulary: Vocabulary) -> str:
    return vocabulary.decode(learnt(each))


@settings(max_examples=80, deadline=None)
@given(
    family=st.sampled_from([(CHATML, BYTES), (CHATML, MERGED), (CHATML, TAGGED), (CHATGLM3, GLM), (MISTRAL, INST)]),
    wire=st.sampled_from([*WIRES]), prompt=conversations(),
)  # fmt: skip
def test_what_is_taught_is_what_is_served(family: tuple[ChatFormat, Vocabulary], wire: str, prompt: Prompt) -> None:
    check_served(prompt, family[0], WIRES[wire], family[1])


@pytest.mark.parametrize(
    "each", [each for each in MARKED if not each.urls and "on-day" not in each.text], ids=lambda each: each.wire
)
def test_serving_lets_the_model_write_what_it_was_taught(each: Marked) -> None:
    """A call's tokens are taken by the grammar that constrains it."""
    wire, prompt = WIRES[each.wire], each.prompt
    grammars = Grammars(TAGGED, [TAGGED.special("<|im_end|>") or 0])
    for index, message in enumerate(prompt.messages):
        if message.calls and not message.content:
            made = lesson(before(prompt, index + 1), CHATML, wire, TAGGED)
            begin = len(encode(before(prompt, index), CHATML, wire, TAGGED))
            grammar = grammars.of_calls(prompt.offered, wire, several=wire.several)
            grammar.accept(made.tokens[begin:-1])
            assert grammar.complete
