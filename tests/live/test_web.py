"""The guard of everything that speaks HTTP for a tool: names that lead inside, connections that break, answers without end."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx2
import pytest
from aiohttp import web

from tests.support.apis import serving
from tool_adapters.tool import ToolRefused
from tool_adapters.web import NoAnswer, NotReached, Request, Web
from tool_adapters.web_transport import guarded_transport

asked: list[str] = []


async def answer(request: web.Request) -> web.StreamResponse:
    asked.append(f"{request.method} {request.path}")
    match request.path:
        case "/packed":
            return web.Response(body=gzip.compress(b"x"), headers={"content-encoding": "gzip"})
        case "/long":
            return web.Response(body=b"x" * 2000)
        case "/stream":
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            for _ in range(3):
                await response.write(b"data: " + b"x" * 1000 + b"\n\n")
            return response
        case "/cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        case "/inside":
            raise web.HTTPFound("http://127.0.0.1:22/")
        case "/latin":
            return web.Response(body="Zürich".encode("latin-1"), headers={"content-type": "text/plain; charset=latin-1"})
    return web.json_response({"host": request.host})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    asked.clear()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with serving(app) as place:
        yield int(place.rsplit(":", 1)[1])


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, port: int) -> list[str]:
    """The names that were resolved; `public.example` leads to a global address at first and to loopback from then on."""
    resolved: list[str] = []
    real = socket.getaddrinfo

    def lookup(host: str, *more: object, **how: object) -> list[object]:
        name = host.decode() if isinstance(host, bytes) else host
        if not name.endswith(".example"):
            return real(host, *more, **how)  # type: ignore[arg-type, return-value]
        resolved.append(name)
        inside = name == "inside.example" or resolved.count(name) > 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if inside else "93.184.215.14", port))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return resolved


async def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(port: int, names: list[str]) -> None:
    session = Web(hint="--allow HOST:PORT")
    for url in ("http://inside.example/", "http://localhost/", f"http://localhost:{port}/", "http://[::ffff:127.0.0.1]/"):
        with pytest.raises(ToolRefused) as error:
            await session.ask(Request("GET", url), 5)
        assert error.value.code == "AddressForbidden" and error.value.hint == "--allow HOST:PORT"
    await session.close()
    client = httpx2.AsyncClient(transport=guarded_transport(), trust_env=False)
    for url in ("http://inside.example/", f"http://localhost:{port}/"):
        with pytest.raises(ToolRefused):
            await client.get(url)
    await client.aclose()
    assert asked == []


async def test_a_name_is_resolved_once_so_it_cannot_change_its_mind(port: int, names: list[str]) -> None:
    async with httpx2.AsyncClient(transport=guarded_transport(), trust_env=False, timeout=0.2) as client:
        with suppress(httpx2.TransportError):
            await client.get("http://public.example/")
    assert names == ["public.example"] and asked == []
    names.clear()
    session = Web()
    with suppress(NotReached, NoAnswer):
        await session.ask(Request("GET", "http://public.example/"), 0.3)
    await session.close()
    assert names == ["public.example"] and asked == []


async def test_a_place_that_is_allowed_is_reached_by_its_name(port: int) -> None:
    session = Web([f"localhost:{port}"])
    assert b"localhost" in (await session.ask(Request("GET", f"http://localhost:{port}/"), 5)).body
    with pytest.raises(ToolRefused):
        await session.ask(Request("GET", f"http://127.0.0.1:{port}/"), 5)
    with pytest.raises(ToolRefused):
        await session.ask(Request("GET", f"http://localhost:{port}/inside"), 5)
    await session.close()
    async with httpx2.AsyncClient(transport=guarded_transport([f"localhost:{port}"]), follow_redirects=True) as client:
        assert (await client.get(f"http://localhost:{port}/")).json() == {"host": f"localhost:{port}"}
        with pytest.raises(ToolRefused):
            await client.get(f"http://localhost:{port}/inside")


async def test_it_is_known_whether_anything_was_sent(port: int, unused_port: int) -> None:
    session = Web([f"127.0.0.1:{port}", f"127.0.0.1:{unused_port}"])
    with pytest.raises(NoAnswer):
        await session.ask(Request("PUT", f"http://127.0.0.1:{port}/cut"), 5)
    assert asked == ["PUT /cut"]
    with pytest.raises(NotReached):
        await session.ask(Request("PUT", f"http://127.0.0.1:{unused_port}/"), 5)
    await session.close()


async def test_an_answer_has_an_end(port: int) -> None:
    place = f"127.0.0.1:{port}"
    session = Web([place], body_limit=1000)
    long = await session.ask(Request("GET", f"http://{place}/long"), 5)
    assert long.cut and len(long.body) == 1000
    assert (await session.ask(Request("GET", f"http://{place}/latin"), 5)).text() == "Zürich"
    await session.close()
    async with httpx2.AsyncClient(transport=guarded_transport([place], body_limit=1000)) as client:
        for path in ("/long", "/packed"):
            with pytest.raises(ToolRefused):
                await client.get(f"http://{place}{path}")
        assert len((await client.get(f"http://{place}/stream")).content) > 3000


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_what_is_under_way_ends_at_its_last_moment() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/", slow)
    async with serving(app) as place:
        session = Web([place.removeprefix("http://")])
        with pytest.raises(NoAnswer, match="in time"):
            await session.ask(Request("GET", f"{place}/?secret=1"), 0.2)
        await session.close()
