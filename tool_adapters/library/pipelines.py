"""Models of ModelScope as tools: on ModelScope's inference endpoint, or as a local pipeline where `modelscope` is installed.

Names, parameters and results are those of modelscope_agent's default tools (2023-09 to 2024-02); the endpoint takes
`{"input": ..., "parameters": ...}` and answers `{"Code": 200, "Data": ...}`.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import ClassVar

from tool_adapters.library.access import Access, missing
from tool_adapters.library.remote import Remote, at, text_at
from tool_adapters.media import Media
from tool_adapters.modelscope import ImageWrapper, Tool, VideoWrapper
from tool_adapters.tool import InvalidArguments, ToolRefused, ToolUnavailable

TOKEN_PAGE = "https://modelscope.cn/my/myaccesstoken"


class ModelscopePipelineTool(Tool):
    """A tool that is one model. Derive from it, set `default_model` and `task`, and `_parse_output` where needed.

    cfg: by tool name: `is_remote_tool` (default: whether a token is set), `model`, `model_revision`, `pipeline_params`,
    `url`, `token`. The pipeline is built at the first call.
    """

    default_model: ClassVar[str] = ""
    task: ClassVar[str] = ""
    model_revision: ClassVar[str | None] = None
    tags: ClassVar[tuple[str, ...]] = ("modelscope",)
    timeout_s: ClassVar[float] = 120.0

    def __init__(self, cfg: Mapping[str, Mapping[str, object]] | None = None, *, access: Access | None = None) -> None:
        access = access or Access.of(os.environ)
        own = dict((cfg or {}).get(self.name, {}))
        self.model = str(own.get("model") or self.default_model)
        self.revision = str(own.get("model_revision") or self.model_revision or "") or None
        given = own.get("pipeline_params")
        self.pipeline_params: Mapping[str, object] = given if isinstance(given, Mapping) else {}
        own.setdefault("token", access.modelscope_token)
        own.setdefault("url", f"{access.modelscope_url}/{self.model}")
        own.setdefault("is_remote_tool", bool(own["token"]))
        super().__init__({self.name: own})
        self._access = access
        self._pipeline: object = None

    def _remote_call(self, *args: object, **kwargs: object) -> dict[str, object]:
        if not self.token:
            raise missing(self.name, "MODELSCOPE_API_TOKEN", TOKEN_PAGE, extra="pip install modelscope for a local model")
        secrets = {"authorization": f"Bearer {self.token}"}
        remote = Remote(self.name, secrets=secrets, allow=self._access.allow, timeout_s=self.timeout_s)
        answer = remote.post(self.url, self._remote_parse_input(*args, **kwargs))
        code = answer.get("Code", 200)
        if code != 200:
            raise ToolRefused(f"{self.name} was refused.", code=str(code), why=str(answer.get("Message", ""))[:300])
        return self._parse_output(answer.get("Data"))

    def _local_call(self, *args: object, **kwargs: object) -> dict[str, object]:
        return self._parse_output(self._built()(**self._local_parse_input(*args, **kwargs)))  # type: ignore[operator]

    def _built(self) -> object:
        if self._pipeline is None:
            try:
                from modelscope.pipelines import pipeline
            except ImportError as error:
                hint_of_extra = "pip install modelscope for a local model"
                raise missing(self.name, "MODELSCOPE_API_TOKEN", TOKEN_PAGE, extra=hint_of_extra) from error
            try:
                self._pipeline = pipeline(
                    task=self.task, model=self.model, model_revision=self.revision, **self.pipeline_params
                )  # fmt: skip
            except Exception as error:
                why = f"{type(error).__name__}: {error}"[:300]
                raise ToolUnavailable(f"The model {self.model} of {self.name} could not be loaded.", why=why) from error
        return self._pipeline

    def _fetch(self, place: str) -> bytes:
        remote = Remote(self.name, secrets={}, allow=self._access.allow, timeout_s=self.timeout_s)
        return remote.fetch(place)

    def _media(self, value: object) -> bytes:
        """Bytes of a medium as a pipeline gives them: themselves, an address, base64, or a file's path."""
        if isinstance(value, bytes | bytearray):
            return bytes(value)
        if isinstance(value, str) and value and not self.is_remote_tool and os.path.exists(value):
            with open(value, "rb") as file:
                return file.read()
        if not isinstance(value, str) or not value:
            raise ToolRefused(f"{self.name} answered otherwise than its protocol says.", code="InvalidAnswer")
        return self._fetch(value)


class _Translation(ModelscopePipelineTool):
    task = "translation"

    def _parse_output(self, origin_result: object) -> dict[str, object]:
        return {"result": text_at(self.name, origin_result, "translation")}


class TranslationZh2En(_Translation):
    """Chinese to English."""

    name = "text-translation-zh2en"
    title = "Translation, Chinese to English"
    description = "Translate a Chinese text into English. 将中文文本翻译成英文。"
    parameters: ClassVar = [{"name": "input", "description": "The Chinese text. 中文文本"}]
    examples = ("Translate 今天天气很好 into English", "把这句话翻译成英文：你好，世界", "中译英")
    default_model = "damo/nlp_csanmt_translation_zh2en"


class TranslationEn2Zh(_Translation):
    """English to Chinese."""

    name = "text-translation-en2zh"
    title = "Translation, English to Chinese"
    description = "Translate an English text into Chinese. 将英文文本翻译成中文。"
    parameters: ClassVar = [{"name": "input", "description": "The English text. 英文文本"}]
    examples = ("Translate 'the weather is fine' into Chinese", "把这句英文翻译成中文", "英译中")
    default_model = "damo/nlp_csanmt_translation_en2zh"


class TextExtraction(ModelscopePipelineTool):
    """What a schema asks for, found in a Chinese text: type -> spans."""

    name = "text-ie"
    title = "Information extraction"
    description = "Extract the information that a schema names from a Chinese text. 按照 schema 从中文文本中抽取信息。"
    parameters: ClassVar = [
        {"name": "input", "description": "The Chinese text. 中文文本"},
        {"name": "schema", "description": 'What to extract, as JSON: {"人物": null, "地理位置": null}. 要抽取信息的 JSON 表示'},
    ]
    examples = ("从这段文字里抽取人物和地点", "Extract persons and places from this Chinese text", "信息抽取")
    default_model = "damo/nlp_structbert_siamese-uie_chinese-base"
    task = "siamese_uie"

    def _remote_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        return {"input": kwargs["input"], "parameters": {"schema": self._schema_of(kwargs)}}

    def _local_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        return {"input": kwargs["input"], "schema": self._schema_of(kwargs)}

    def _schema_of(self, kwargs: Mapping[str, object]) -> object:
        try:
            schema = json.loads(str(kwargs["schema"]))
        except ValueError as error:
            raise InvalidArguments(f"The schema of {self.name} is no JSON.", why=str(error)) from error
        if not isinstance(schema, dict):
            raise InvalidArguments(f"The schema of {self.name} is no JSON object.", hint='such as {"人物": null}')
        return schema

    def _parse_output(self, origin_result: object) -> dict[str, object]:
        found: dict[str, list[object]] = defaultdict(list)
        outputs = at(origin_result, "output")
        for each in outputs if isinstance(outputs, list) else []:
            found[text_at(self.name, each, 0, "type")].append(at(each, 0, "span"))
        return {"result": dict(found)}


class TextNer(ModelscopePipelineTool):
    """Names in a Chinese text: type -> spans."""

    name = "text-ner"
    title = "Named entities"
    description = "Find persons, places, organisations and other names in a Chinese text. 识别中文文本中的命名实体。"
    parameters: ClassVar = [{"name": "input", "description": "The Chinese text. 中文文本"}]
    examples = ("识别这句话里的人名和地名", "Find the named entities in this Chinese sentence", "命名实体识别")
    default_model = "damo/nlp_raner_named-entity-recognition_chinese-base-news"
    task = "named-entity-recognition"

    def _parse_output(self, origin_result: object) -> dict[str, object]:
        found: dict[str, list[object]] = defaultdict(list)
        outputs = at(origin_result, "output")
        for each in outputs if isinstance(outputs, list) else []:
            found[text_at(self.name, each, "type")].append(at(each, "span"))
        return {"result": dict(found)}


class TextAddress(ModelscopePipelineTool):
    """The elements of a Chinese address: element -> span."""

    name = "text-address"
    title = "Address parsing"
    description = (
        "Take a Chinese address apart: province, city, district, road, number, building. "
        "解析中文地址中的省市区、道路、门牌号等要素。"
    )
    parameters: ClassVar = [{"name": "input", "description": "The address. 地址文本"}]
    examples = ("解析地址：浙江省杭州市余杭区文一西路969号", "Parse this Chinese address", "地址要素解析")
    default_model = "damo/mgeo_geographic_elements_tagging_chinese_base"
    task = "token-classification"

    def _parse_output(self, origin_result: object) -> dict[str, object]:
        outputs = at(origin_result, "output")
        return {
            "result": {
                text_at(self.name, each, "type"): at(each, "span") for each in (outputs if isinstance(outputs, list) else [])
            }
        }


class TextToVideo(ModelscopePipelineTool):
    """A film of an English description."""

    name = "video-generation"
    title = "Text to video"
    description = (
        "Make a short video that shows what an English text describes; translate a Chinese text first. "
        "根据英文描述生成视频；中文描述请先翻译成英文。"
    )
    parameters: ClassVar = [{"name": "text", "description": "What the video shows, in English. 英文视频描述"}]
    examples = ("Make a video of a panda eating bamboo", "生成一段视频：一只熊猫在吃竹子")
    default_model = "damo/text-to-video-synthesis"
    task = "text-to-video-synthesis"
    timeout_s = 600.0

    def _remote_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        return {"input": {"text": kwargs["text"]}}

    def _local_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        return {"input": {"text": kwargs["text"]}}

    def _parse_output(self, origin_result: object) -> dict[str, object]:
        return {"result": VideoWrapper(self._media(at(origin_result, "output_video")), name="video.mp4")}


class ImageChat(ModelscopePipelineTool):
    """Talk about a picture."""

    name = "image-chat"
    title = "Talk about an image"
    description = "Answer a question about an image, or describe it. 针对图片回答问题或描述图片内容。"
    parameters: ClassVar = [
        {"name": "image", "description": "The image: payload:... of an earlier result, or its address. 图片"},
        {"name": "text", "description": "The question. 问题"},
    ]
    examples = ("What is in this picture?", "Describe the image", "这张图片里有什么？")
    default_model = "damo/multi-modal_mplug_owl_multimodal-dialogue_7b"
    task = "multimodal-dialogue"

    def _remote_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        system = "A person asks about an image; answer helpfully, in the person's language."
        return {"input": {"messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": [{"image": image_argument(self.name, kwargs["image"])}]},
            {"role": "user", "content": kwargs["text"]},
        ]}}  # fmt: skip

    _local_parse_input = _remote_parse_input

    def _parse_output(self, origin_result: object) -> dict[str, object]:
        return {"result": text_at(self.name, origin_result, "text")}


def image_argument(tool: str, value: object) -> str:
    """An image as an address: its own, or its bytes in one. Raises InvalidArguments."""
    import base64

    if isinstance(value, Media) and value.media_type.startswith("image/"):
        return f"data:{value.media_type};base64,{base64.b64encode(value.data).decode()}"
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return value
    raise InvalidArguments(
        f"{tool} was given no image.", why=f"it got {str(value)[:80]!r}",
        hint="give the payload:... of an image that an earlier result named, or its address",
    )  # fmt: skip


__all__ = ["ImageWrapper", "ModelscopePipelineTool"]
