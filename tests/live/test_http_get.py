"""http_get against a real server: what it follows, what it cuts, and what it will not touch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from aiohttp import web

from tool_adapters.builtin.http_get import SIZE_LIMIT, TEXT_LIMIT, http_get
from tool_adapters.tool import CallContext, InvalidArguments, ToolRefused, ToolUnavailable
from tool_adapters.web import REDIRECTS

CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=10)
Get = Callable[[str], Awaitable[str]]
asked: list[str] = []


async def answer(request: web.Request) -> web.StreamResponse:
    asked.append(request.path)
    match request.path:
        case "/json":
            return web.json_response({"city": "杭州"})
        case "/html":
            return web.Response(text="<h1>Hi</h1><script>x()</script>", content_type="text/html")
        case "/long":
            return web.Response(text="x" * (TEXT_LIMIT + 5))
        case "/huge":
            return web.Response(text="x" * (SIZE_LIMIT + 1))
        case "/binary":
            return web.Response(body=b"\x00", content_type="application/octet-stream")
        case "/busy":
            return web.Response(status=503, text="later")
        case "/cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        case "/loop":
            raise web.HTTPFound("/loop")
        case path if path.startswith("/to/"):
            raise web.HTTPFound(request.query["url"])
        case _:
            return web.Response(status=404, text="nothing here")


@pytest.fixture
async def server() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    asked.clear()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def get(server: str) -> Get:
    tool = http_get(allow=[server])

    async def read(path: str) -> str:
        return (await tool.call({"url": f"http://{server}{path}"}, CONTEXT)).text

    return read


async def test_json_and_pages_are_read(get: Get) -> None:
    assert await get("/json") == 'HTTP 200\n{"city": "\\u676d\\u5dde"}'
    assert await get("/html") == "HTTP 200\nHi"
    assert await get("/none") == "HTTP 404\nnothing here"


async def test_long_text_is_cut_and_says_so(get: Get) -> None:
    text = await get("/long")

    assert len(text) < TEXT_LIMIT + 100
    assert f"[the first {TEXT_LIMIT} of {TEXT_LIMIT + 5} characters]" in text


@pytest.mark.parametrize(("path", "code"), [("/huge", "TooLarge"), ("/binary", "UnsupportedMediaType")])
async def test_what_is_too_large_or_no_text_is_refused(get: Get, path: str, code: str) -> None:
    with pytest.raises(ToolRefused) as caught:
        await get(path)

    assert caught.value.code == code


@pytest.mark.parametrize("path", ["/busy", "/cut"])
async def test_trouble_of_the_server_can_be_tried_again(get: Get, path: str) -> None:
    with pytest.raises(ToolUnavailable):
        await get(path)


async def test_redirects_are_followed_to_what_may_be_read(get: Get, server: str) -> None:
    assert await get("/to/json?url=/json") == 'HTTP 200\n{"city": "\\u676d\\u5dde"}'


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:{port}/json", "http://169.254.169.254/", "http://localhost:{port}/json", "file:///etc/passwd"]
)
async def test_redirects_to_what_may_not_be_read_are_refused(get: Get, server: str, target: str) -> None:
    with pytest.raises((ToolRefused, InvalidArguments)) as caught:
        await get(f"/to/x?url={target.format(port=server.split(':')[1])}")

    assert getattr(caught.value, "code", "AddressForbidden") == "AddressForbidden"
    assert asked == ["/to/x"]


async def test_redirects_end(get: Get) -> None:
    with pytest.raises(ToolRefused) as caught:
        await get("/loop")

    assert caught.value.code == "TooManyRedirects"
    assert len(asked) == REDIRECTS + 1


async def test_a_name_that_leads_home_is_refused_even_on_a_port_that_answers(server: str) -> None:
    """The check is on the address that is connected to, not on the name."""
    tool = http_get(allow=[f"127.0.0.1:{server.split(':')[1]}"])

    with pytest.raises(ToolRefused) as caught:
        await tool.call({"url": "http://localhost:80/"}, CONTEXT)

    assert caught.value.code == "AddressForbidden"
    assert asked == []


async def test_a_server_that_is_not_there(server: str) -> None:
    with pytest.raises(ToolUnavailable):
        await http_get(allow=["127.0.0.1:9"]).call({"url": "http://127.0.0.1:9/"}, replace(CONTEXT, timeout_s=2))
