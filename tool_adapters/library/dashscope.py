"""Generative models of DashScope (Alibaba Cloud Model Studio) as tools: asked, waited for, fetched.

Protocol: POST with `X-DashScope-Async: enable` answers a task id; GET /api/v1/tasks/{id} tells PENDING, RUNNING, SUCCEEDED or
FAILED. https://help.aliyun.com/zh/model-studio
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import ClassVar

from tool_adapters.library.access import Access, missing
from tool_adapters.library.pipelines import image_argument
from tool_adapters.library.remote import Remote, at, text_at
from tool_adapters.modelscope import ImageWrapper, Tool
from tool_adapters.tool import InvalidArguments, ToolRefused, ToolUnavailable

KEY_PAGE = "https://help.aliyun.com/zh/model-studio/get-api-key"
FIRST_LOOK_S, LAST_LOOK_S = 0.5, 5.0
RESOLUTIONS = ("1024*1024", "720*1280", "1280*720")
RATIOS = ("1:1", "16:9", "9:16")


class DashScopeTool(Tool):
    """A tool that is one service of DashScope. service: its path; model: what it runs by default (settings: `model`)."""

    service: ClassVar[str] = ""
    model: ClassVar[str] = ""
    tags: ClassVar[tuple[str, ...]] = ("dashscope", "image")
    timeout_s: ClassVar[float] = 300.0

    def __init__(self, cfg: Mapping[str, Mapping[str, object]] | None = None, *, access: Access | None = None) -> None:
        self._access = access or Access.of(os.environ)
        own = dict((cfg or {}).get(self.name, {}))
        self._model = str(own.get("model") or self.model)
        own.setdefault("token", self._access.dashscope_key)
        own["is_remote_tool"] = True
        own.setdefault("url", f"{self._access.dashscope_url}/api/v1/services/{self.service}")
        super().__init__({self.name: own})
        self.token = str(own["token"])

    def _remote_call(self, *args: object, **kwargs: object) -> dict[str, object]:
        if not self.token:
            raise missing(self.name, "DASHSCOPE_API_KEY", KEY_PAGE)
        body = {"model": self._model, **self._remote_parse_input(*args, **kwargs)}
        secrets = {"authorization": f"Bearer {self.token}"}
        remote = Remote(self.name, secrets=secrets, allow=self._access.allow, timeout_s=60.0)
        return {"result": self._done(remote, body)}

    def _done(self, remote: Remote, body: Mapping[str, object]) -> object:
        answer = remote.post(self.url, body, {"x-dashscope-async": "enable"})
        return self._pictures(remote, self._awaited(remote, text_at(self.name, answer, "output", "task_id")))

    def _awaited(self, remote: Remote, task: str) -> object:
        """What a task came to. Raises ToolRefused when it failed, ToolUnavailable when it takes too long."""
        place = f"{self._access.dashscope_url}/api/v1/tasks/{task}"
        until, pause = time.monotonic() + self.timeout_s, FIRST_LOOK_S
        while time.monotonic() < until:
            output = at(remote.get(place), "output")
            match at(output, "task_status"):
                case "SUCCEEDED":
                    return output
                case "FAILED" | "CANCELED" | "UNKNOWN" as status:
                    code = str(at(output, "code") or status)
                    raise ToolRefused(f"{self.name} failed.", code=code, why=str(at(output, "message") or "")[:300])
            time.sleep(pause)
            pause = min(LAST_LOOK_S, pause * 1.5)
        raise ToolUnavailable(f"{self.name} did not finish within {self.timeout_s:g} s.", why=f"task {task} still runs")

    def _pictures(self, remote: Remote, output: object) -> object:
        results = at(output, "results")
        places = [at(each, "url") for each in results] if isinstance(results, list) else []
        places = [each for each in (*places, at(output, "result_url")) if isinstance(each, str)]
        if not places:
            raise ToolRefused(f"{self.name} answered without an image.", code="InvalidAnswer")
        images = [ImageWrapper(remote.fetch(str(each))) for each in places]
        return images[0] if len(images) == 1 else images


class TextToImage(DashScopeTool):
    """A picture of a description."""

    name = "image_gen"
    title = "Text to image"
    description = "Draw a picture of what a text describes. AI 绘画：根据文本描述生成图片。"
    parameters: ClassVar = [
        {"name": "text", "description": "What the picture shows, in detail. 图像内容的详细描述"},
        {"name": "resolution", "description": "Width*height. 分辨率", "required": False, "enum": RESOLUTIONS},
    ]
    examples = ("Draw a picture of a cat on the moon", "Make an image of a mountain lake", "画一只在月球上的猫", "生成一张图片")
    service = "aigc/text2image/image-synthesis"
    model = "wanx-v1"

    def _remote_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        size = kwargs.get("resolution") or RESOLUTIONS[0]
        return {"input": {"prompt": kwargs["text"]}, "parameters": {"size": size, "n": 1}}


class StyleRepaint(DashScopeTool):
    """A portrait in another style."""

    name = "style_repaint"
    title = "Portrait in another style"
    description = "Repaint a portrait photo in a style. 将人像照片重绘为指定风格。"
    parameters: ClassVar = [
        {"name": "input.image_path", "description": "The photo: payload:... of an earlier result, or its address. 照片"},
        {
            "name": "input.style_index", "type": "integer",
            "description": "0 retro comic 复古漫画, 1 3D fairy tale 3D童话, 2 anime 二次元, "
            "3 fresh 小清新, 4 future 未来科技, 5 ink painting 国画古风",
        },
    ]  # fmt: skip
    examples = ("Repaint this photo as an anime portrait", "把这张照片变成国画风格")
    service = "aigc/image-generation/generation"
    model = "wanx-style-repaint-v1"

    def _remote_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        style = kwargs["input.style_index"]
        if not isinstance(style, int) or not 0 <= style <= 9:
            raise InvalidArguments(f"{self.name} has no style {style}.", hint="0 to 5, as its description lists them")
        return {"input": {"image_url": image_argument(self.name, kwargs["input.image_path"]), "style_index": style}}


class ImageEnhancement(DashScopeTool):
    """A picture made larger and clearer."""

    name = "phantom_image_enhancement"
    title = "Enhance an image"
    description = "Make an image clearer and up to four times larger. 图像超分辨率增强。"
    parameters: ClassVar = [
        {"name": "input.image_path", "description": "The image: payload:... of an earlier result, or its address. 图片"},
        {"name": "parameters.upscale", "type": "integer", "required": False, "description": "1 to 4 times. 放大倍数"},
    ]
    examples = ("Make this image sharper", "把这张图片放大两倍并变清晰")
    service = "enhance/image-enhancement/generation"
    model = "wanx-image-enhancement-v1"

    def _remote_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        upscale = kwargs.get("parameters.upscale", 2)
        if not isinstance(upscale, int) or not 1 <= upscale <= 4:
            raise InvalidArguments(f"{self.name} makes an image 1 to 4 times larger, not {upscale} times.")
        image = image_argument(self.name, kwargs["input.image_path"])
        return {"input": {"image_url": image}, "parameters": {"upscale": upscale}}


class WordArt(DashScopeTool):
    """Words as a picture."""

    name = "wordart_texture_generation"
    title = "Word art"
    description = "Draw words with a texture, as word art. 生成艺术字纹理图片。"
    parameters: ClassVar = [
        {"name": "input.text.text_content", "description": "The words, at most 6 characters. 文字内容"},
        {"name": "input.prompt", "description": "What they look like: shape, colour, things. 风格描述"},
        {"name": "input.texture_style", "required": False, "enum": ("material", "scene"), "description": "Texture. 纹理类型"},
        {"name": "input.text.output_image_ratio", "required": False, "enum": RATIOS, "description": "Shape. 图片比例"},
    ]
    examples = ("Make word art of the word LOVE out of flowers", "生成“春节”两个字的艺术字")
    service = "aigc/wordart/texture"
    model = "wordart-texture"

    def _remote_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        ratio = kwargs.get("input.text.output_image_ratio") or RATIOS[0]
        text = {"text_content": kwargs["input.text.text_content"], "output_image_ratio": ratio}
        style = kwargs.get("input.texture_style") or "material"
        return {"input": {"text": text, "prompt": kwargs["input.prompt"], "texture_style": style}, "parameters": {"n": 1}}


class QwenVL(DashScopeTool):
    """Questions about images, answered by Qwen-VL."""

    name = "qwen_vl"
    title = "Ask Qwen-VL about an image"
    description = "Answer a question about an image, and read the text in it. 针对图片回答问题，识别图片中的文字。"
    parameters: ClassVar = [
        {"name": "image_file_path", "description": "The image: payload:... of an earlier result, or its address. 图片"},
        {"name": "text", "description": "The question. 问题"},
    ]
    examples = ("Read the text in this image", "图片里写了什么？")
    service = "aigc/multimodal-generation/generation"
    model = "qwen-vl-plus"

    def _remote_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        image = {"image": image_argument(self.name, kwargs["image_file_path"])}
        return {"input": {"messages": [{"role": "user", "content": [image, {"text": kwargs["text"]}]}]}}

    def _done(self, remote: Remote, body: Mapping[str, object]) -> object:
        return text_at(self.name, remote.post(self.url, body), "output", "choices", 0, "message", "content", 0, "text")
