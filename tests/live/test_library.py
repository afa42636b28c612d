"""The default tool library against servers that speak the services' protocols, and eSpeak NG itself."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from schemas.tools import Part, PartKind, ToolResult
from tests.support.model_services import Services, model_services, png
from tool_adapters.library import library_tools
from tool_adapters.library.access import Access
from tool_adapters.library.pipelines import TranslationZh2En
from tool_adapters.library.speech import spoken
from tool_adapters.tool import CallContext, InvalidArguments, ToolRefused, ToolUnavailable

KEPT: dict[str, bytes] = {}


async def keep(data: bytes, *, kind: PartKind, media_type: str, name: str | None = None) -> Part:
    ref = f"payload:{len(KEPT):064x}"
    KEPT[ref] = data
    return Part(kind=kind, ref=ref, media_type=media_type, name=name, size=len(data))


async def load(ref: str) -> bytes:
    return KEPT[ref]


CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=20, keep=keep, load=load)


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    async with model_services() as found:
        yield found


async def called(access: Access, name: str, **arguments: object) -> ToolResult:
    tool = next(each for each in library_tools(access) if each.card.name == name)
    return await tool.call(arguments, CONTEXT)


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("text-translation-zh2en", {"input": "你好"}, "EN(你好)"),
        ("text-translation-en2zh", {"input": "hello"}, "中(hello)"),
        ("text-ie", {"input": "他住在杭州", "schema": '{"地点": null}'}, {"地点": ["杭州"]}),
        ("text-ner", {"input": "李白从杭州到北京"}, {"LOC": ["杭州", "北京"], "PER": ["李白"]}),
        ("text-address", {"input": "浙江省杭州市"}, {"prov": "浙江省", "city": "杭州市"}),
        ("image-chat", {"image": "https://example.com/a.png", "text": "what?"}, "an image of 25 characters"),
        ("qwen_vl", {"image_file_path": "https://example.com/a.png", "text": "what?"}, "answer to what?"),
    ],
)
async def test_models_elsewhere(services: Services, name: str, arguments: dict[str, object], result: object) -> None:
    told = await called(services.access(), name, **arguments)
    assert (json.loads(told.text) if isinstance(result, dict) else told.text) == result


@pytest.mark.parametrize(
    ("name", "arguments", "body"),
    [
        ("image_gen", {"text": "a cat"},
         {"model": "wanx-v1", "input": {"prompt": "a cat"}, "parameters": {"size": "1024*1024", "n": 1}}),
        ("style_repaint", {"input.image_path": "https://example.com/a.png", "input.style_index": 2},
         {"model": "wanx-style-repaint-v1", "input": {"image_url": "https://example.com/a.png", "style_index": 2}}),
        ("phantom_image_enhancement", {"input.image_path": "https://example.com/a.png", "parameters.upscale": 4},
         {"model": "wanx-image-enhancement-v1", "input": {"image_url": "https://example.com/a.png"},
          "parameters": {"upscale": 4}}),
        ("wordart_texture_generation", {"input.text.text_content": "春节", "input.prompt": "red"},
         {"model": "wordart-texture", "input": {"text": {"text_content": "春节", "output_image_ratio": "1:1"},
          "prompt": "red", "texture_style": "material"}, "parameters": {"n": 1}}),
    ],
)  # fmt: skip
async def test_pictures_are_asked_for_awaited_and_kept(
    services: Services, name: str, arguments: dict[str, object], body: dict[str, object]
) -> None:
    told = await called(services.access(), name, **arguments)
    assert services.seen[0][1] == body
    assert services.looks == 3
    (picture,) = [part for part in told.parts if part.kind == "image"]
    assert picture.ref is not None and KEPT[picture.ref] == png()


async def test_a_task_that_fails_says_why(services: Services) -> None:
    services.task_fails = True
    with pytest.raises(ToolRefused, match="inappropriate content") as failed:
        await called(services.access(), "image_gen", text="a cat")
    assert failed.value.code == "DataInspectionFailed"


async def test_an_earlier_picture_is_given_to_a_later_tool(services: Services) -> None:
    kept = await keep(png(), kind="image", media_type="image/png")
    told = await called(services.access(), "image-chat", image=kept.ref, text="what?")
    assert told.text.startswith("an image of ") and int(told.text.split()[3]) > len(png())


async def test_a_film_and_a_sound_are_kept(services: Services) -> None:
    film = await called(services.access(), "video-generation", text="a panda")
    assert [part.media_type for part in film.parts if part.ref] == ["video/mp4"]
    sound = await called(services.access(), "speech-generation", input="你好", gender="man")
    assert services.seen[-1][1] == {"input": "你好", "parameters": {"voice": "zhizhe_emo"}}
    assert [part.media_type for part in sound.parts if part.ref] == ["audio/wav"]


async def test_the_weather_of_a_city(services: Services) -> None:
    told = await called(services.access(), "amap_weather", location="杭州")
    assert told.text == "浙江 杭州市 at 2026-11-21 20:00:00: 小雨, 14 °C, wind 东北 ≤3"
    with pytest.raises(ToolRefused, match="knows no place"):
        await called(services.access(), "amap_weather", location="Atlantis")
    with pytest.raises(ToolRefused, match="INVALID_USER_KEY"):
        await called(replace(services.access(), amap_key="other"), "amap_weather", location="杭州")


async def test_the_web_is_searched_with_brave_or_searxng(services: Services) -> None:
    found = json.loads((await called(services.access(), "web_search", query="nats")).text)
    assert len(found) == 5 and found[0]["title"] == "nats 0" and len(found[0]["snippet"]) < 310
    own = replace(services.access(), searxng_url=f"http://127.0.0.1:{services.port}")
    assert json.loads((await called(own, "web_search", query="nats")).text) == [
        {"title": "nats", "link": "https://example.org/", "snippet": "c"}
    ]


async def test_pages_are_read_and_one_that_is_forbidden_does_not_spoil_the_others(services: Services) -> None:
    here = f"http://127.0.0.1:{services.port}/search?format=json&q=x"
    told = await called(services.access(), "web_browser", urls=[here, "http://169.254.169.254/latest"])
    assert "example.org" in told.text and "169.254.169.254 is not a public address" in told.text


async def test_busy_refused_and_wrong_keys_are_told_apart(services: Services) -> None:
    services.fail = [429]
    with pytest.raises(ToolUnavailable) as busy:
        await called(services.access(), "text-ner", input="x")
    assert busy.value.retry_after_s == 1
    with pytest.raises(ToolRefused, match="check the key"):
        await called(replace(services.access(), modelscope_token="other"), "text-ner", input="x")
    with pytest.raises(ToolRefused, match="Invalid API-key"):
        await called(replace(services.access(), dashscope_key="other"), "image_gen", text="x")


@pytest.mark.parametrize(
    ("name", "arguments", "variable"),
    [
        ("text-ner", {"input": "x"}, "MODELSCOPE_API_TOKEN"), ("image_gen", {"text": "x"}, "DASHSCOPE_API_KEY"),
        ("amap_weather", {"location": "杭州"}, "AMAP_TOKEN"), ("web_search", {"query": "x"}, "BRAVE_SEARCH_API_KEY"),
    ],
)  # fmt: skip
async def test_without_a_key_it_says_which_one(name: str, arguments: dict[str, object], variable: str) -> None:
    with pytest.raises(ToolRefused, match=variable) as missing:
        await called(Access(), name, **arguments)
    assert missing.value.code == "NoKey"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("style_repaint", {"input.image_path": "https://example.com/a.png", "input.style_index": 77}),
        ("phantom_image_enhancement", {"input.image_path": "https://example.com/a.png", "parameters.upscale": 9}),
        ("qwen_vl", {"image_file_path": "/etc/passwd", "text": "x"}),
        ("text-ie", {"input": "x", "schema": "no json"}),
        ("web_search", {"query": " "}),
        ("web_browser", {"urls": []}),
    ],
)
async def test_wrong_arguments_are_refused_before_anything_is_asked(
    services: Services, name: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(InvalidArguments):
        await called(services.access(), name, **arguments)
    assert not services.seen


def test_a_key_is_shown_nowhere() -> None:
    access = Access.of({"DASHSCOPE_API_KEY": "canary", "MODELSCOPE_API_TOKEN": "canary", "AMAP_TOKEN": "canary"})
    assert "canary" not in repr(access)


async def test_a_local_pipeline_is_used_where_the_settings_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = TranslationZh2En({"text-translation-zh2en": {"is_remote_tool": False}}, access=Access(modelscope_token="t"))
    monkeypatch.setattr(tool, "_built", lambda: lambda input: {"translation": f"local {input}"})
    assert (await tool.call({"input": "你好"}, CONTEXT)).text == "local 你好"


def seconds(sound: bytes) -> float:
    with wave.open(io.BytesIO(sound)) as file:
        frames = file.readframes(file.getnframes())
        assert max(frames) > 0, "silence"
        return file.getnframes() / file.getframerate()


@pytest.mark.parametrize("text", ["Hello.", "你好。"])
def test_it_speaks_without_a_network(text: str) -> None:
    short, long = seconds(spoken(text, "woman")), seconds(spoken(text * 5, "man"))
    assert 0.2 < short < long


async def test_speech_needs_no_key() -> None:
    told = await called(Access(), "speech-generation", input="The server was renewed.")
    assert [part.kind for part in told.parts if part.ref] == ["audio"]
    with pytest.raises(InvalidArguments):
        await called(Access(), "speech-generation", input=" ")
