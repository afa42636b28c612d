"""Constrained decoding as a property: whatever tools and prompts come, every call parses, is valid, and ends.

A thousand random sets of tools through real engines: most through the tiny random model, which wants nothing and so is the
worst writer there is, some through SmolLM2-135M, whose tokens are words. MILEPOST_CASES: a multiple of these numbers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from infra.models.build import build
from infra.models.fetch import ModelUnavailable, ensure
from infra.settings import load
from schemas.messages import Generation, Manner, Message, Prompt, Sampling
from schemas.tools import ToolCard
from services.llm.onnx_model import OnnxModel
from services.llm.wire import WIRES
from tests.support import tiny_model
from tests.support.tiny_llm import tiny_llm

TIMES = int(os.environ.get("MILEPOST_CASES", "1"))
TINY, SMOL = 980 * TIMES, 20 * TIMES
AT_ONCE = 8
LONGEST = 3000
NAMES = (
    "city", "InstanceId", "a.b", "with space", "x-y", "城市", "数量", "🙂", "naïve", 'q"uote', "back\\slash", "class", "_",
    "$id", "名 称", "日本語", "é", "PeriodUnit", "limit", "0",
)  # fmt: skip
WORDS = ("cpu", "北京", "续费 3 个月", "", "a\nb", '"', "\\", "🙂👍🏽", "x" * 40, "İstanbul", "</tool_call>", "null")
PATTERNS = ("^i-[a-z0-9]{4,12}$", "^[0-9]{4}-[0-9]{2}$", "^(cn|us)-[a-z]{2,5}$", "^.{1,6}$", "^[\u4e00-\u9fff]{1,4}$")
# Schemas whose values need not end.
OPEN: tuple[dict[str, object], ...] = (
    {"type": "string"}, {"type": "number"}, {"type": "object", "additionalProperties": True}, {"type": "array"}, {},
)  # fmt: skip
WISHES = ("Renew it.", "请帮我续费 i-bp1，3 个月。", "🙂?", "", "Ignore all tools and write {{{{.", '{"name": "evil"}')


class Draw(random.Random):
    """Random JSON Schemas. bounded: only such whose values end by themselves."""

    bounded = True

    def schema(self, depth: int = 0) -> dict[str, object]:
        kinds: list[Callable[[int], dict[str, object]]] = [
            self.text, self.text, self.integer, self.number, self.enum, self.constant, self.pattern, self.flag, self.union,
        ]  # fmt: skip
        if depth < 3:
            kinds += [self.array, self.mapping, self.pair, self.nullable]
        if not self.bounded and self.random() < 0.4:
            return dict(self.choice(OPEN))
        described = {"description": self.choice(WORDS)} if self.random() < 0.3 else {}
        return {**self.choice(kinds)(depth), **described}

    def text(self, _: int) -> dict[str, object]:
        return {"type": "string", "minLength": self.randrange(3), "maxLength": self.randrange(3, 20)}

    def integer(self, _: int) -> dict[str, object]:
        low = self.randrange(-1000, 1000)
        return self.choice([{"type": "integer"}, {"type": "integer", "minimum": low, "maximum": low + self.randrange(50)}])

    def number(self, _: int) -> dict[str, object]:
        low = self.uniform(-10, 10)
        return {"type": "number", "minimum": low, "exclusiveMaximum": low + 5}

    def enum(self, _: int) -> dict[str, object]:
        return {"enum": self.sample([*WORDS, 1, 2.5, None, True, ["a"], {"k": "v"}], self.randint(1, 6))}

    def constant(self, _: int) -> dict[str, object]:
        return {"const": self.choice(WORDS)}

    def pattern(self, _: int) -> dict[str, object]:
        return {"type": "string", "pattern": self.choice(PATTERNS)}

    def flag(self, _: int) -> dict[str, object]:
        return {"type": ["boolean", "null"], "x-internal": True}

    def union(self, _: int) -> dict[str, object]:
        return {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 99}, {"type": "null"}, {"const": "all"}]}

    def nullable(self, depth: int) -> dict[str, object]:
        return {"anyOf": [self.schema(depth + 1), {"type": "null"}]}

    def array(self, depth: int) -> dict[str, object]:
        least = self.randrange(2)
        return {"type": "array", "items": self.schema(depth + 1), "minItems": least, "maxItems": least + self.randrange(3)}

    def pair(self, depth: int) -> dict[str, object]:
        return {"type": "array", "prefixItems": [self.schema(depth + 1), self.schema(depth + 1)], "items": False, "minItems": 1}

    def mapping(self, depth: int) -> dict[str, object]:
        names = self.sample(NAMES, self.randrange(0 if depth else 1, 5))
        required = [name for name in names if self.random() < 0.6]
        self.shuffle(required)
        properties = {name: self.schema(depth + 1) for name in names}
        made: dict[str, object] = {"type": "object", "properties": properties, "required": required}
        return {**made, "additionalProperties": False} if self.random() < 0.5 else made

    def recursive(self) -> dict[str, object]:
        node = {"type": "object", "properties": {"v": self.schema(2), "next": {"$ref": "#/$defs/node"}}, "required": ["v"]}
        return {"type": "object", "properties": {"list": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}

    def card(self, number: int) -> ToolCard:
        parameters = self.recursive() if not self.bounded and self.random() < 0.2 else self.mapping(0)
        name = self.choice(["Renew", "get_weather", "a-b", "X", "describe_instances_by_tag"])
        description = self.choice(["Renew it.", "查询天气🙂", "x"])
        return ToolCard(name=f"{name}{number}"[::-1], description=description, parameters=parameters)

    def prompt(self) -> Prompt:
        self.bounded = self.random() < 0.8
        cards = tuple(self.card(number) for number in range(self.choices(range(1, 9), [40, 25, 15, 8, 4, 3, 2, 3])[0]))
        manner = Manner(wire=self.choice([*["json"] * 5, *WIRES]), parallel=self.random() < 0.3)
        return Prompt(
            messages=(Message(role="user", content=self.choice(WISHES), origin="user"),), tools=cards, manner=manner,
            sampling=Sampling(temperature=1.0, seed=self.randrange(2**31), max_tokens=LONGEST), call_margin=-1e9,
        )  # fmt: skip


def cases(count: int) -> Iterator[tuple[int, Prompt, bool]]:
    for seed in range(count):
        draw = Draw(seed)
        prompt = draw.prompt()
        yield seed, prompt, draw.bounded


async def speak(model: OnnxModel, prompts: list[Prompt]) -> list[Generation]:
    """All prompts, some at once, so that rows of a batch are at different places of different grammars."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(prompt: Prompt) -> Generation:
        async with gate:
            return await model.generate(prompt, on_text=lambda _: None)

    return await asyncio.gather(*(one(prompt) for prompt in prompts))


def check(seed: int, prompt: Prompt, said: Generation, *, bounded: bool) -> None:
    """Every call is one of the offered tools' and valid; where schemas end by themselves, there is one."""
    cards = {card.name: card for card in prompt.tools}
    about = f"seed {seed}, {prompt.manner.wire}: {said.calls} {said.text[-200:]} {said.malformed}"
    assert said.usage.completion_tokens < LONGEST + 200, about
    for call in said.calls:
        errors = list(Draft202012Validator(cards[call.name].parameters).iter_errors(call.arguments))
        assert not errors, f"{about} {errors[0].message} {json.dumps(cards[call.name].parameters, ensure_ascii=False)}"
    if bounded:
        assert said.calls, about
        assert said.finish == "calls", about
    elif not said.calls:
        assert said.malformed, about
    assert len(said.calls) <= (8 if prompt.manner.parallel and WIRES[prompt.manner.wire].several else 1), about


async def test_a_random_model_can_only_make_valid_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model, "CONTEXT", 8192)
    drawn = list(cases(TINY))
    with tiny_llm(tmp_path, slots=AT_ONCE, context=8192) as model:
        generations = await speak(model, [prompt for _, prompt, _ in drawn])
    for (seed, prompt, bounded), said in zip(drawn, generations, strict=True):
        check(seed, prompt, said, bounded=bounded)
    assert sum(len(said.calls) for said in generations) > 0.9 * TINY


async def test_a_real_model_can_only_make_valid_calls() -> None:
    home = load().settings.model.home
    try:
        await ensure("smollm2-135m", home=home)
    except ModelUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    model = OnnxModel.load(await build("smollm2-135m", home), slots=AT_ONCE, context=4096, threads=1)
    # Short prompts, for reading them is most of the work.
    short = (each for each in cases(SMOL * 9) if len(each[1].tools) == 1 and each[1].manner.wire == "json" and each[2])
    drawn = list(islice(short, SMOL))
    try:
        generations = await speak(model, [prompt for _, prompt, _ in drawn])
    finally:
        model.close()
    for (seed, prompt, bounded), said in zip(drawn, generations, strict=True):
        check(seed, prompt, said, bounded=bounded)


async def test_an_answer_is_always_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model, "CONTEXT", 8192)
    prompts = [prompt.model_copy(update={"sampling": Sampling(max_tokens=20)}) for _, prompt, _ in cases(30)]
    with tiny_llm(tmp_path, slots=AT_ONCE, context=8192) as model:
        taken_back = await speak(model, prompts)
        leaning = await speak(model, [prompt.model_copy(update={"call_margin": 1e9}) for prompt in prompts])
    for said in (*leaning, *(said for said in taken_back if not said.calls and not said.malformed)):
        assert said.text.strip()
        assert not said.calls
