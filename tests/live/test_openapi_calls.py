"""Calls of an API of our own making: bodies, credentials, keys and conditions, and servers that mean ill."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from schemas.tools import Part, PartKind
from tests.support.apis import serving
from tool_adapters.openapi.answers import RESULT_BYTES
from tool_adapters.openapi.call import Override, Settings
from tool_adapters.openapi.cards import tools
from tool_adapters.openapi.document import read
from tool_adapters.openapi.security import schemes_of
from tool_adapters.openapi.source import OpenApiSource
from tool_adapters.openapi.tool import OperationTool
from tool_adapters.tool import CallContext, OutcomeUnknown, Tool, ToolError, ToolRefused, ToolUnavailable

JSON = {"200": {"description": "ok", "content": {"application/json": {}}}}
CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=5, write_key="k" * 32)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def operation(method: str, **said: Any) -> dict[str, Any]:
    return {method: {"operationId": "it", "responses": JSON, **said}}


class Api:
    """A server with one handler for everything, and the tools of a document about it."""

    def __init__(self) -> None:
        self.asked: list[tuple[web.Request, bytes]] = []
        self.handler: Handler = self._ok
        self.place = ""
        self._sources: list[OpenApiSource] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        parts = request.content_type.startswith("multipart/")  # which the handler reads
        self.asked.append((request, b"" if parts else await request.read()))
        return await self.handler(request)

    @staticmethod
    async def _ok(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    def tool(
        self, path: str, said: dict[str, Any], *, name: str = "it", auth: dict[str, str] | None = None, allow: bool = True,
        effect: Override | None = None, **root: Any,
    ) -> OperationTool:  # fmt: skip
        raw = json.dumps({"openapi": "3.0.3", "info": {"title": "T", "version": "1"}, "paths": {path: said}, **root}).encode()
        document = read(raw)
        made = {each.card.name: each for each in tools(document, effects={"it": effect} if effect else None)}
        settings = Settings(
            server=self.place, given_server=self.place if allow else "", auth=auth or {}, schemes=schemes_of(document)
        )
        source = OpenApiSource(settings.model_dump(mode="json"))
        self._sources.append(source)
        return source.tool(made[name])

    async def close(self) -> None:
        for source in self._sources:
            await source.close()

    @property
    def last(self) -> tuple[web.Request, bytes]:
        return self.asked[-1]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    made = Api()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", made.answer)
    async with serving(app) as made.place:
        yield made
        await made.close()


async def failure(tool: Tool, arguments: dict[str, object] | None = None, context: CallContext = CONTEXT) -> ToolError:
    with pytest.raises(ToolError) as error:
        await tool.call(arguments or {}, context)
    return error.value


def body(media_type: str, properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties or {}}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema, **more}}}}


# --- bodies ---------------------------------------------------------------------------------------


async def test_a_form_is_sent_as_one(api: Api) -> None:
    encoding = {"filter": {"style": "deepObject", "explode": True}}
    tool = api.tool("/forms", operation("post", **body("application/x-www-form-urlencoded", {"a": {}}, encoding=encoding)))
    await tool.call({"body": {"a": ["1", "ü&"], "b": True, "c": {"d": 1}, "filter": {"x": "y"}}}, CONTEXT)
    request, raw = api.last
    assert request.content_type == "application/x-www-form-urlencoded"
    assert parse_qs(raw.decode()) == {"a": ["1", "ü&"], "b": ["true"], "c": ['{"d":1}'], "filter[x]": ["y"]}


async def test_files_are_sent_by_reference(api: Api) -> None:
    async def load(ref: str) -> bytes:
        return b"\x00kept" if ref == "payload:1" else b""

    got: dict[str, tuple[str | None, str | None, bytes]] = {}

    async def handler(request: web.Request) -> web.Response:
        for name, field in (await request.post()).items():
            if isinstance(field, web.FileField):
                got[name] = (field.filename, field.content_type, field.file.read())
            else:
                got[name] = (None, None, field.encode() if isinstance(field, str) else bytes(field))
        return web.json_response({})

    api.handler = handler
    files = {
        "photo": {"type": "string", "format": "binary"},
        "note": {"type": "string", "format": "binary"},
        "meta": {"type": "object"},
    }
    tool = api.tool("/files", operation("post", **body("multipart/form-data", files)))
    data = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    given: dict[str, object] = {"body": {"photo": data, "note": "payload:1", "meta": {"a": 1}, "title": "x"}}
    await tool.call(given, replace(CONTEXT, load=load))
    assert got["photo"] == ("photo", "image/png", b"\x89PNG") and got["note"][2] == b"\x00kept"
    assert got["title"] == (None, None, b"x") and got["meta"][2] == b'{"a":1}'


async def test_what_is_binary_is_kept_and_referred_to(api: Api) -> None:
    kept: list[bytes] = []

    async def keep(data: bytes, *, kind: PartKind, media_type: str, name: str | None = None) -> Part:
        kept.append(data)
        return Part(kind=kind, ref="payload:abc", media_type=media_type, name=name, size=len(data))

    async def handler(_: web.Request) -> web.Response:
        return web.Response(
            body=b"\x89PNG", content_type="image/png", headers={"content-disposition": 'attachment; filename="../a.png"'}
        )

    api.handler = handler
    result = await api.tool("/x", operation("get")).call({}, replace(CONTEXT, keep=keep))
    assert kept == [b"\x89PNG"] and result.parts[0].kind == "image" and result.parts[0].name == ".._a.png"
    assert result.text == "4 bytes of image/png: payload:abc"


async def test_a_long_list_is_cut_and_says_so(api: Api) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"things": [{"n": n, "text": "x" * 500} for n in range(1000)], "total": 1000})

    api.handler = handler
    result = await api.tool("/x", operation("get")).call({}, CONTEXT)
    listed, note = result.text.split("\n")
    shown = json.loads(listed)
    assert shown["total"] == 1000 and 100 < len(shown["things"]) < 200 and len(listed) <= RESULT_BYTES + 2000
    assert note == f"[the first {len(shown['things'])} of 1,000 things: more do not fit]"


# --- credentials ----------------------------------------------------------------------------------

SCHEMES = {
    "securitySchemes": {
        "Basic": {"type": "http", "scheme": "basic"},
        "Key": {"type": "apiKey", "in": "query", "name": "key"},
        "Tenant": {"type": "apiKey", "in": "header", "name": "X-Tenant"},
        "Session": {"type": "apiKey", "in": "cookie", "name": "sid"},
    }
}


async def test_each_scheme_goes_where_the_document_says(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGIN", "ann:pa ss")
    monkeypatch.setenv("KEY", "k&y")
    both = operation("get", security=[{"Session": []}, {"Basic": [], "Key": [], "Tenant": []}])
    auth = {"Basic": "env:LOGIN", "Key": "env:KEY", "Tenant": "env:KEY"}
    await api.tool("/x", both, auth=auth, components=SCHEMES).call({}, CONTEXT)
    request, _ = api.last
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"ann:pa ss").decode()
    assert request.query["key"] == "k&y" and request.headers["x-tenant"] == "k&y" and "cookie" not in request.headers
    await api.tool("/x", both, auth={**auth, "Session": "env:KEY"}, components=SCHEMES).call({}, CONTEXT)
    request, _ = api.last
    assert request.cookies["sid"] == "k%26y" and "authorization" not in request.headers


async def test_an_operation_that_wants_no_credentials_gets_none_of_the_document(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGIN", "ann:x")
    said = operation("get", security=[])
    await api.tool("/x", said, auth={"Basic": "env:LOGIN"}, components=SCHEMES, security=[{"Basic": []}]).call({}, CONTEXT)
    assert "authorization" not in api.last[0].headers


async def test_a_token_is_fetched_once_kept_and_fetched_anew_when_it_is_refused(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIENT", "id:se cret")
    given: list[str] = []
    dead: set[str] = set()

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/token":
            form = await request.post()
            assert form["grant_type"] == "client_credentials" and form["scope"] == "read write"
            assert base64.b64decode(request.headers["authorization"].split()[1]) == b"id:se%20cret"
            given.append(f"token-{len(given)}")
            return web.json_response({"access_token": given[-1], "expires_in": 3600})
        token = request.headers["authorization"].removeprefix("Bearer ")
        return web.json_response({}, status=401 if token in dead else 200)

    api.handler = handler
    flow = {"clientCredentials": {"tokenUrl": f"{api.place}/token", "scopes": {"read": "", "write": ""}}}
    components = {"securitySchemes": {"OAuth": {"type": "oauth2", "flows": flow}}}
    tool = api.tool("/x", operation("get", security=[{"OAuth": []}]), auth={"OAuth": "env:CLIENT"}, components=components)
    await asyncio.gather(*(tool.call({}, CONTEXT) for _ in range(3)))
    assert given == ["token-0"]
    dead.add("token-0")
    await tool.call({}, CONTEXT)
    assert given == ["token-0", "token-1"]


async def test_credentials_do_not_follow_to_another_host(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T", "secret")
    other = Api()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", other.answer)
    async with serving(app) as other.place:

        async def handler(request: web.Request) -> web.Response:
            raise web.HTTPFound("/y" if request.path == "/x" else f"{other.place}/z")

        api.handler = handler
        tool = api.tool("/x", operation("get"), auth={"bearer": "env:T"})
        assert (await failure(tool)).why.startswith("port ")  # the other place is not public and was never allowed
        settings = Settings(server=api.place, given_server=api.place, allow=(other.place[7:],), auth={"bearer": "env:T"})
        source = OpenApiSource(settings.model_dump(mode="json"))
        await OperationTool(tool.card, tool._call, source._api).call({}, CONTEXT)
        await source.close()
        assert api.last[0].headers["authorization"] == "Bearer secret" and "authorization" not in other.last[0].headers
    await other.close()


# --- writes ---------------------------------------------------------------------------------------

KEYED = [{"name": "Idempotency-Key", "in": "header", "required": True, "schema": {"type": "string"}}]
MATCHED = [{"name": "If-Match", "in": "header", "schema": {"type": "string"}}]


async def test_an_api_that_takes_a_key_gets_the_write_key(api: Api) -> None:
    tool = api.tool("/x", operation("post", parameters=KEYED))
    assert tool.card.idempotency == "key" and tool.card.parameters["properties"] == {}
    await tool.call({}, CONTEXT)
    assert api.last[0].headers["idempotency-key"] == CONTEXT.write_key


async def test_what_was_planned_on_is_a_condition_of_the_write(api: Api) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.method == "PUT" and request.headers.get("if-match") != '"v2"':
            return web.json_response({"title": "Precondition Failed"}, status=412)
        return web.json_response({"color": "red"}, headers={"etag": '"v1"'})

    api.handler = handler
    said = {
        **operation("put", parameters=MATCHED, **body("application/json")),
        "get": {"operationId": "look", "responses": JSON},
    }
    tool = api.tool("/x", said)
    planned = replace(CONTEXT, planned_state=(await tool.plan({"body": {"color": "blue"}}, CONTEXT)).state)
    error = await failure(tool, {"body": {"color": "blue"}}, planned)
    assert isinstance(error, ToolRefused) and error.code == "HTTP412" and "changed" in error.why
    assert api.last[0].headers["if-match"] == '"v1"'


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [(500, {}, OutcomeUnknown), (503, {}, OutcomeUnknown), (503, {"retry-after": "3"}, ToolUnavailable),
     (429, {}, ToolUnavailable), (408, {}, ToolUnavailable), (404, {}, ToolRefused), (409, {}, ToolRefused),
     (501, {}, ToolRefused)],
)  # fmt: skip
async def test_what_becomes_of_a_write_that_is_refused(
    api: Api, status: int, headers: dict[str, str], kind: type[ToolError]
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no"}}, status=status, headers=headers)

    api.handler = handler
    error = await failure(api.tool("/x", operation("post")))
    assert type(error) is kind and "no" in error.what and len(api.asked) == 1


async def test_a_server_that_is_not_there_was_sent_nothing(api: Api) -> None:
    tool = api.tool("/x", operation("post"))
    port = int(api.place.rsplit(":", 1)[1])
    settings = Settings(server=f"http://127.0.0.1:{port}0", given_server="http://127.0.0.1:9")
    source = OpenApiSource({**settings.model_dump(mode="json"), "server": "http://127.0.0.1:9"})
    error = await failure(OperationTool(tool.card, tool._call, source._api))
    await source.close()
    assert isinstance(error, ToolUnavailable)


# --- servers that mean ill ------------------------------------------------------------------------


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def no_json(_: web.Request) -> web.Response:
    return web.Response(text="{nope", content_type="application/json")


async def page(_: web.Request) -> web.Response:
    return web.Response(text="<h1>Please log in</h1>", content_type="text/html")


async def ten_megabytes(_: web.Request) -> web.Response:
    return web.json_response(["x" * 1000] * 11_000)


BOMB = gzip.compress(b" " * 50_000_000)


async def bomb(_: web.Request) -> web.Response:
    return web.Response(body=BOMB, headers={"content-encoding": "gzip", "content-type": "application/json"})


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "100"})
    await response.prepare(request)
    await response.write(b'{"a":')
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    ("handler", "read_fails", "why"),
    [(hang, ToolUnavailable, "longer"), (drip, ToolUnavailable, "longer"), (no_json, ToolRefused, "JSON"),
     (page, ToolRefused, "web page"), (ten_megabytes, ToolRefused, "larger"), (bomb, ToolRefused, "larger"),
     (cut_off, ToolUnavailable, "broke off")],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
async def test_a_bad_server_is_no_result_and_a_write_stays_in_doubt(
    api: Api, handler: Handler, read_fails: type[ToolError], why: str
) -> None:
    api.handler = handler
    soon = replace(CONTEXT, timeout_s=0.6 if handler in (hang, drip) else 20)
    error = await failure(api.tool("/x", operation("get")), context=soon)
    assert type(error) is read_fails and why in f"{error.what} {error.why}"
    error = await failure(api.tool("/x", operation("post")), context=soon)
    assert type(error) is OutcomeUnknown
    assert len(api.asked) == 2


@pytest.mark.parametrize(
    "where", ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:22/", "http://[::1]/", "ftp://x/"]
)
async def test_a_redirect_to_the_inside_is_not_followed(api: Api, where: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        raise web.HTTPFound(where)

    api.handler = handler
    error = await failure(api.tool("/x", operation("get")))
    assert getattr(error, "code", "AddressForbidden") == "AddressForbidden" and len(api.asked) == 1


async def test_a_server_of_the_document_on_the_inside_is_asked_only_if_a_person_names_it(api: Api) -> None:
    error = await failure(api.tool("/x", operation("get"), allow=False))
    assert isinstance(error, ToolRefused) and "--allow" in error.hint and api.asked == []


async def test_a_write_is_not_sent_elsewhere_by_a_redirect(api: Api) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/moved":
            raise web.HTTPTemporaryRedirect("/x")
        if request.path == "/away":
            raise web.HTTPTemporaryRedirect("https://example.com/x")
        if request.path == "/done":
            raise web.HTTPSeeOther("https://example.com/result/7")
        return web.json_response({"body": await request.json()})

    api.handler = handler
    said = body("application/json")
    assert "7" in (await api.tool("/moved", operation("post", **said)).call({"body": {"n": 7}}, CONTEXT)).text
    error = await failure(api.tool("/away", operation("post", **said)), {"body": {}})
    assert isinstance(error, ToolRefused) and error.code == "Redirected"
    assert "result/7" in (await api.tool("/done", operation("post", **said)).call({"body": {}}, CONTEXT)).text


async def test_arguments_cannot_break_out_of_their_place(api: Api) -> None:
    parameters = [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "q", "in": "query", "schema": {"type": "string"}},
        {"name": "X-T", "in": "header", "schema": {"type": "string"}},
    ]  # fmt: skip
    tool = api.tool("/things/{id}/x", operation("get", parameters=parameters))
    await tool.call({"id": "a/../../b?x=1#y", "q": "1&admin=true", "X-T": "ok"}, CONTEXT)
    request, _ = api.last
    assert request.raw_path == "/things/a%2F..%2F..%2Fb%3Fx%3D1%23y/x?q=1%26admin%3Dtrue" and request.headers["x-t"] == "ok"
    for wrong in ({"id": ".."}, {"id": ""}, {"id": "a", "X-T": "a\r\nHost: evil"}):
        await failure(tool, dict(wrong))
    assert len(api.asked) == 1
