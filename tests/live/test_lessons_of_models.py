"""Lessons in the tokens of the real models: marked by hand, and just what serving shows."""

from __future__ import annotations

import asyncio
import os
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.models.build import build
from infra.models.fetch import ModelUnavailable, ensure
from infra.settings import load
from schemas.messages import Prompt
from services.llm.about import TOKENIZER
from services.llm.build import Manifest, read_manifest
from services.llm.lesson import END, KINDS, MARKUP, lesson, lessons
from services.llm.tokenizer import Vocabulary
from services.llm.wire import WIRES
from tests.support.marked import MARKED, NOTE, WEATHER, Marked, missed, said, user, weather
from tests.support.taught import check_served, conversations

MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b-instruct")


@cache
def spoken(name: str) -> tuple[Manifest, Vocabulary]:
    """How a built model is spoken to, and its vocabulary; fetched and built if need be."""
    home = load().settings.model.home
    try:
        asyncio.run(ensure(name, home=home))
    except ModelUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    folder = asyncio.run(build(name, home))
    return read_manifest(folder), Vocabulary.load(folder / TOKENIZER)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("each", MARKED, ids=lambda each: each.wire)
def test_every_token_is_of_the_strongest_kind_that_was_marked_in_it(each: Marked, model: str) -> None:
    manifest, vocabulary = spoken(model)
    made = lessons(each.prompt, manifest.chat, WIRES[each.wire], vocabulary, each.urls)
    assert set(missed(made, each.text, vocabulary)) <= {MARKUP, END}


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=60, deadline=None)
@given(wire=st.sampled_from([*WIRES]), prompt=conversations())
def test_what_is_taught_is_what_is_served(model: str, wire: str, prompt: Prompt) -> None:
    manifest, vocabulary = spoken(model)
    check_served(prompt, manifest.chat, WIRES[wire], vocabulary)


def test_tokens_of_qwen_by_hand() -> None:
    """`"}}` and a line's end are one token of it, and count as the arguments they end."""
    manifest, vocabulary = spoken(MODELS[1])
    prompt = Prompt(messages=(user("Hi"), said("", weather("c1", "北京", days=3))), tools=(WEATHER, NOTE))
    made = lesson(prompt, manifest.chat, WIRES["hermes"], vocabulary)
    reply = [(vocabulary.bytes_of(t).decode(), KINDS[kind]) for t, kind in zip(made.tokens, made.kinds, strict=True) if kind]
    assert reply == [
        ("<tool_call>", "markup"), ("\n", "markup"), ('{"', "markup"), ("name", "markup"), ('":', "markup"), (' "', "markup"),
        ("get", "name"), ("_weather", "name"), ('",', "markup"), (' "', "markup"), ("arguments", "markup"), ('":', "markup"),
        (' {"', "parameters"), ("city", "parameters"), ('":', "parameters"), (' "', "parameters"), ("北京", "parameters"),
        ('",', "parameters"), (' "', "parameters"), ("days", "parameters"), ('":', "parameters"), (" ", "parameters"),
        ("3", "parameters"), ("}}\n", "parameters"), ("</tool_call>", "markup"), ("<|im_end|>", "end"),
    ]  # fmt: skip
