"""Servers that speak the protocols of the library's services: ModelScope, DashScope, AMap, Brave, SearXNG.

They check what a real one checks (keys, paths, bodies) and answer in its form.
"""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import segno
from aiohttp import web

from tool_adapters.library.access import Access

KEY = "key-of-the-test"


def wav() -> bytes:
    """A tenth of a second of silence."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(3200))
    return out.getvalue()


def png() -> bytes:
    """A small picture."""
    out = io.BytesIO()
    segno.make("test").save(out, kind="png")
    return out.getvalue()


@dataclass(slots=True)
class Services:
    """All services on one port. seen: (path, body) in order; fail: statuses that come before anything else."""

    port: int = 0
    seen: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    fail: list[int] = field(default_factory=list)
    looks: int = 0
    task_fails: bool = False

    def access(self) -> Access:
        """How the tools reach them."""
        here = f"http://127.0.0.1:{self.port}"
        return Access.of({
            "MODELSCOPE_API_URL": f"{here}/models", "MODELSCOPE_API_TOKEN": KEY, "DASHSCOPE_API_URL": here,
            "DASHSCOPE_API_KEY": KEY, "AMAP_API_URL": here, "AMAP_TOKEN": KEY, "BRAVE_SEARCH_URL": here,
            "BRAVE_SEARCH_API_KEY": KEY,
        })  # fmt: skip

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[self.watched])
        app.router.add_post("/models/{model:.+}", self.modelscope)
        app.router.add_post("/api/v1/services/{service:.+}", self.dashscope)
        app.router.add_get("/api/v1/tasks/{task}", self.task)
        app.router.add_get("/made/{name}", self.made)
        app.router.add_get("/v3/config/district", self.district)
        app.router.add_get("/v3/weather/weatherInfo", self.weather)
        app.router.add_get("/res/v1/web/search", self.brave)
        app.router.add_get("/search", self.searxng)
        return app

    @web.middleware
    async def watched(self, http: web.Request, handler: object) -> web.StreamResponse:
        if self.fail:
            status = self.fail.pop(0)
            return web.json_response(
                {"code": "Throttling", "message": "slow down"}, status=status, headers={"Retry-After": "1"}
            )
        return await handler(http)  # type: ignore[operator, no-any-return]

    async def modelscope(self, http: web.Request) -> web.Response:
        body = await self._body(http)
        if body is None:
            return web.json_response({"Code": 401, "Message": "token is invalid"}, status=401)
        data: dict[str, object]
        match http.match_info["model"]:
            case "damo/nlp_csanmt_translation_zh2en":
                data = {"translation": f"EN({body['input']})"}
            case "damo/nlp_csanmt_translation_en2zh":
                data = {"translation": f"中({body['input']})"}
            case "damo/nlp_structbert_siamese-uie_chinese-base":
                schema = body["parameters"]["schema"]  # type: ignore[index]
                data = {"output": [[{"type": name, "span": "杭州", "offset": [0, 2]}] for name in schema]}
            case "damo/nlp_raner_named-entity-recognition_chinese-base-news":
                data = {
                    "output": [
                        {"type": "LOC", "span": "杭州"},
                        {"type": "LOC", "span": "北京"},
                        {"type": "PER", "span": "李白"},
                    ]
                }
            case "damo/mgeo_geographic_elements_tagging_chinese_base":
                data = {"output": [{"type": "prov", "span": "浙江省"}, {"type": "city", "span": "杭州市"}]}
            case "damo/speech_sambert-hifigan_tts_zh-cn_16k":
                data = {"output_wav": base64.b64encode(wav()).decode()}
            case "damo/text-to-video-synthesis":
                data = {"output_video": base64.b64encode(b"\x00\x00\x00\x18ftypmp42" + bytes(64)).decode()}
            case "damo/multi-modal_mplug_owl_multimodal-dialogue_7b":
                image = body["input"]["messages"][1]["content"][0]["image"]  # type: ignore[index]
                data = {"text": f"an image of {len(image)} characters"}
            case model:
                return web.json_response({"Code": 404, "Message": f"no model {model}"}, status=404)
        return web.json_response({"Code": 200, "Data": data})

    async def dashscope(self, http: web.Request) -> web.Response:
        body = await self._body(http)
        if body is None:
            return web.json_response({"code": "InvalidApiKey", "message": "Invalid API-key provided."}, status=401)
        if http.match_info["service"] == "aigc/multimodal-generation/generation":
            text = body["input"]["messages"][0]["content"][1]["text"]  # type: ignore[index]
            content = [{"text": f"answer to {text}"}]
            return web.json_response({"output": {"choices": [{"message": {"role": "assistant", "content": content}}]}})
        if http.headers.get("X-DashScope-Async") != "enable":
            return web.json_response({"code": "AccessDenied", "message": "does not support synchronous calls"}, status=403)
        self.looks = 0
        return web.json_response({"output": {"task_id": "t-1", "task_status": "PENDING"}, "request_id": "r-1"})

    async def task(self, http: web.Request) -> web.Response:
        self.looks += 1
        if self.looks < 3:
            return web.json_response({"output": {"task_id": "t-1", "task_status": ("PENDING", "RUNNING")[self.looks - 1]}})
        if self.task_fails:
            failed = {"task_status": "FAILED", "code": "DataInspectionFailed", "message": "inappropriate content"}
            return web.json_response({"output": failed})
        url = f"http://127.0.0.1:{self.port}/made/picture.png"
        enhanced = any("enhance" in path for path, _ in self.seen)
        results = {"result_url": url} if enhanced else {"results": [{"url": url}]}
        return web.json_response({"output": {"task_id": "t-1", "task_status": "SUCCEEDED", **results}})

    async def made(self, http: web.Request) -> web.Response:
        if "Authorization" in http.headers:
            return web.Response(status=400, text="a key was sent where it is none of anybody's business")
        return web.Response(body=png(), content_type="image/png")

    async def district(self, http: web.Request) -> web.Response:
        if http.query.get("key") != KEY:
            return web.json_response({"status": "0", "info": "INVALID_USER_KEY", "infocode": "10001"})
        found = [{"name": "杭州市", "adcode": "330100"}] if http.query["keywords"] == "杭州" else []
        return web.json_response({"status": "1", "info": "OK", "districts": found})

    async def weather(self, http: web.Request) -> web.Response:
        live = {
            "province": "浙江", "city": "杭州市", "adcode": http.query["city"], "weather": "小雨", "temperature": "14",
            "winddirection": "东北", "windpower": "≤3", "humidity": "88", "reporttime": "2026-11-21 20:00:00",
        }  # fmt: skip
        return web.json_response({"status": "1", "info": "OK", "lives": [live]})

    async def brave(self, http: web.Request) -> web.Response:
        if http.headers.get("X-Subscription-Token") != KEY:
            return web.json_response({"type": "ErrorResponse"}, status=422)
        found = [
            {"title": f"{http.query['q']} {n}", "url": f"https://example.com/{n}", "description": "d" * 400} for n in range(9)
        ]
        return web.json_response({"web": {"results": found}})

    async def searxng(self, http: web.Request) -> web.Response:
        if http.query.get("format") != "json":
            return web.Response(text="<html>", content_type="text/html")
        return web.json_response({"results": [{"title": http.query["q"], "url": "https://example.org/", "content": "c"}]})

    async def _body(self, http: web.Request) -> dict[str, object] | None:
        body: dict[str, object] = await http.json()
        self.seen.append((http.path, body))
        return body if http.headers.get("Authorization") == f"Bearer {KEY}" else None


@asynccontextmanager
async def model_services() -> AsyncIterator[Services]:
    """The services for the time of the block."""
    services = Services()
    runner = web.AppRunner(services.app(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        services.port = int(runner.addresses[0][1])
        yield services
    finally:
        await runner.cleanup()
