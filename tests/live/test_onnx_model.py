"""The real models: SmolLM2-135M for how the engine behaves, the default model for what it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from infra.models.build import build
from infra.models.catalogue import DEFAULT_TEXT_MODEL
from infra.models.fetch import ModelUnavailable, ensure
from infra.settings import load
from runtime.prompt import AFTER_RESULT_MARGIN, FIRST_MARGIN
from schemas.messages import ChoiceOutput, Generation, JsonOutput, Manner, Message, Prompt, Sampling
from schemas.tools import ToolCard
from services.llm.about import TOKENIZER
from services.llm.decoders import PrecisionElsewhere
from services.llm.engine import ModelBusy, PromptTooLong
from services.llm.model import Terms
from services.llm.onnx_model import OnnxModel
from services.llm.session import ModelBroken
from services.llm.tokenizer import Vocabulary

SYSTEM = Message(role="system", content="You are a helpful assistant. Answer in the user's language.")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def card(name: str, description: str, required: dict[str, object], optional: dict[str, object] | None = None) -> ToolCard:
    properties = {**required, **(optional or {})}
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return ToolCard(name=name, description=description, parameters=parameters)


TEXT: dict[str, object] = {"type": "string"}
CLOUD = (
    card(
        "RenewInstance",
        "Renew a subscription ECS instance for a number of periods.",
        {"InstanceId": TEXT, "Period": {"type": "integer"}},
        {"PeriodUnit": {"type": "string", "enum": ["Week", "Month"]}},
    ),
    card("DescribeInstances", "List ECS instances and their status.", {}, {"RegionId": TEXT}),
    card("StopInstance", "Stop a running ECS instance.", {"InstanceId": TEXT}, {"ForceStop": {"type": "boolean"}}),
)
OTHERS = (
    card("convert_units", "Convert a quantity to another unit.", {"value": {"type": "number"}, "source": TEXT, "target": TEXT}),
    card("RebootInstance", "Restart an ECS instance.", {"InstanceId": TEXT}),
    card("http_get", "Fetch a web page by URL.", {"url": TEXT}),
)


async def built(name: str) -> Path:
    """The folder of a built model, fetched and built if need be."""
    home = load().settings.model.home
    try:
        await ensure(name, home=home)
    except ModelUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return await build(name, home)


@pytest.fixture
async def smol() -> AsyncIterator[OnnxModel]:
    model = OnnxModel.load(await built("smollm2-135m"), slots=4, context=1024, max_waiting=2)
    yield model
    model.close()


@pytest.fixture
async def default() -> AsyncIterator[OnnxModel]:
    model = OnnxModel.load(await built(DEFAULT_TEXT_MODEL))
    yield model
    model.close()


def user(text: str) -> Message:
    return Message(role="user", content=text, origin="user")


def prompt(*messages: Message, tools: tuple[ToolCard, ...] = (), margin: float = FIRST_MARGIN, longest: int = 80) -> Prompt:
    return Prompt(messages=messages, tools=tools, sampling=Sampling(max_tokens=longest), call_margin=margin)


async def say(model: OnnxModel, asked: Prompt, *, label: str = "") -> Generation:
    return await model.generate(asked, on_text=lambda _: None, terms=Terms(label=label))


def in_manner(asked: Prompt, **manner: object) -> Prompt:
    return asked.model_copy(update={"manner": Manner.model_validate(manner)})


async def test_it_speaks_sense_and_is_heard_as_it_comes(smol: OnnxModel) -> None:
    heard: list[str] = []
    said = await smol.generate(prompt(SYSTEM, user("What colour is the sky?")), on_text=heard.append)
    assert "blue" in said.text
    assert "".join(heard) == said.text
    assert len(heard) > 3
    assert said.provider == "CPUExecutionProvider"
    assert 0 < said.first_token_ms <= said.total_ms


async def test_streams_together_say_what_they_say_alone(smol: OnnxModel) -> None:
    questions = ["Name three colours.", "Who was Newton?", "Why is the sky blue, in one sentence?", "What is rain?"]
    prompts = [prompt(SYSTEM, user(question), longest=24) for question in questions]
    # Once before, so that both times read the same pieces: a piece of another length rounds otherwise.
    for asked in prompts:
        await say(smol, asked)
    alone = [(await say(smol, asked)).text for asked in prompts]
    together = await asyncio.gather(*(say(smol, asked) for asked in prompts))
    assert [said.text for said in together] == alone


async def test_the_next_prompt_of_a_run_reads_only_what_is_new(smol: OnnxModel) -> None:
    first = await say(smol, prompt(SYSTEM, user("Name a colour."), longest=12), label="run")
    messages = (SYSTEM, user("Name a colour."), Message(role="assistant", content=first.text), user("Another one."))
    second = await say(smol, prompt(*messages, longest=12), label="run")
    assert second.usage.cached_tokens >= first.usage.prompt_tokens


async def test_cancelling_a_generation_makes_room(smol: OnnxModel) -> None:
    begun = asyncio.Event()
    endless = prompt(SYSTEM, user("Write a very long story about the sea."), longest=900)
    tasks = [asyncio.create_task(smol.generate(endless, on_text=lambda _: begun.set())) for _ in range(6)]
    await begun.wait()
    with pytest.raises(ModelBusy):
        await say(smol, endless)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await say(smol, prompt(SYSTEM, user("Say hello."), longest=8))).text


async def test_a_prompt_beyond_the_context_is_refused(smol: OnnxModel) -> None:
    with pytest.raises(PromptTooLong):
        await say(smol, prompt(SYSTEM, user("word " * 2000)))


async def test_history_beyond_the_context_is_left_out_and_that_is_said(smol: OnnxModel) -> None:
    turns = [each for _ in range(9) for each in (user("word " * 150), Message(role="assistant", content="Yes."))]
    said = await say(smol, prompt(SYSTEM, *turns, user("What colour is the sky?"), longest=24))
    assert "blue" in said.text
    assert said.cut == ("the oldest 4 of 9 earlier turns",)
    assert said.usage.prompt_tokens <= 1024 - 24


async def test_a_certified_generation_says_under_what_it_ran_and_says_it_again(smol: OnnxModel) -> None:
    asked = in_manner(prompt(SYSTEM, user("Name three colours."), longest=12), certified=True)
    first = await say(smol, asked)
    await say(smol, prompt(SYSTEM, user("Name three rivers."), longest=12))
    again = await say(smol, asked)
    assert first.certificate == again.certificate
    assert first.certificate is not None
    assert first.certificate.engine.startswith("onnxruntime")
    assert (again.text, again.usage.cached_tokens) == (first.text, 0)
    assert again.tokenizer_hash == first.tokenizer_hash != ""
    assert (await say(smol, prompt(SYSTEM, user("Name three colours."), longest=12))).certificate is None


async def test_an_answer_has_the_wanted_form(smol: OnnxModel) -> None:
    asked = prompt(SYSTEM, user("Is Paris in France?"))
    assert (await say(smol, in_manner(asked, output=ChoiceOutput(options=("yes", "no"))))).text == "yes"
    schema = {"type": "object", "properties": {"capital": {"type": "string", "maxLength": 20}}, "required": ["capital"]}
    said = await say(smol, in_manner(asked, output=JsonOutput(json_schema=schema)))
    assert list(json.loads(said.text)) == ["capital"]


async def test_cuda_that_is_not_there_is_said(smol: OnnxModel) -> None:
    if "CUDAExecutionProvider" in smol.provider:
        pytest.skip("this machine has the device")
    folder = await built("smollm2-135m")
    with pytest.raises(PrecisionElsewhere, match="does not run on cuda"):
        OnnxModel.load(folder, provider="cuda")


async def test_a_graph_that_is_cut_short_is_said(tmp_path: Path) -> None:
    folder = await built("smollm2-135m")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 1000 if file.name == "model.onnx" else None])
    with pytest.raises(ModelBroken, match="milepost models build"):
        OnnxModel.load(tmp_path)


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelBroken, match="milepost models build"):
        OnnxModel.load(tmp_path)


@pytest.mark.parametrize("name", ["smollm2-135m", pytest.param(DEFAULT_TEXT_MODEL, marks=pytest.mark.model)])
async def test_the_bytes_of_each_token_are_what_the_tokenizer_decodes(name: str) -> None:
    path = await built(name) / TOKENIZER
    tokenizer, vocabulary = Tokenizer.from_file(str(path)), Vocabulary.load(path)
    for index in range(len(vocabulary)):
        if not vocabulary.is_special(index):
            assert vocabulary.bytes_of(index).decode(errors="replace") == tokenizer.decode([index])


@pytest.mark.model
@pytest.mark.parametrize(
    ("wish", "instance", "result"),
    [
        (
            "Please help me renew ECS instance i-bp1aaa111 for 3 months",
            "i-bp1aaa111",
            '{"OrderId": "20345", "RequestId": "4B2D"}',
        ),
        ("请帮我把ECS实例 i-bp1bbb222 续费3个月", "i-bp1bbb222", '{"OrderId": "20345", "RequestId": "4B2D"}'),
    ],
)
async def test_the_default_model_renews_and_then_says_so(default: OnnxModel, wish: str, instance: str, result: str) -> None:
    called = await say(default, prompt(SYSTEM, user(wish), tools=CLOUD), label="run")
    assert [(call.name, call.arguments) for call in called.calls] == [
        ("RenewInstance", {"InstanceId": instance, "Period": 3, "PeriodUnit": "Month"})
    ]
    told = (
        Message(role="assistant", content="", calls=called.calls, origin="model"),
        Message(role="tool", content=result, name="RenewInstance", origin="tool"),
    )
    said = await say(default, prompt(SYSTEM, user(wish), *told, tools=CLOUD, margin=AFTER_RESULT_MARGIN), label="run")
    assert not said.calls
    assert said.text[0] not in "<{[`"
    assert bool(CHINESE.search(said.text)) == bool(CHINESE.search(wish))
    assert said.usage.cached_tokens >= called.usage.prompt_tokens


@pytest.mark.model
@pytest.mark.parametrize(
    ("question", "fits"),
    [("What is the capital of France?", "Paris"), ("你好，你是谁？", "助手|我是|千问|Qwen"), ("Thank you!", "welcome|glad")],
)
async def test_the_default_model_answers_without_a_call(default: OnnxModel, question: str, fits: str) -> None:
    said = await say(default, prompt(SYSTEM, user(question), tools=OTHERS))
    assert not said.calls
    assert re.search(fits, said.text)


@pytest.mark.model
@pytest.mark.parametrize(
    ("passages", "question", "fits"),
    [
        (
            "[handbook > Backups] Snapshots of data disks are taken every day at 03:00 UTC and kept for 30 days.\n"
            "[handbook > Access] SSH access goes through the bastion host bastion.example.net.",
            "How long are snapshots kept?",
            "30",
        ),
        (
            "[手册 > 备份] 数据盘快照每天 03:00 UTC 创建，保留 30 天。\n"
            "[手册 > 访问] SSH 访问需经过堡垒机 bastion.example.net。",
            "SSH 怎么访问服务器？",
            "bastion",
        ),
    ],
)
async def test_the_default_model_answers_from_passages(default: OnnxModel, passages: str, question: str, fits: str) -> None:
    asked = f"Passages from the documents, each after its [source]:\n{passages}\n\nQuestion: {question}"
    said = await say(default, prompt(SYSTEM, user(asked), tools=CLOUD))
    assert not said.calls
    assert fits in said.text
