"""Arguments as one HTTP request."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tool_adapters.openapi.call import Body, Call, Parameter
from tool_adapters.openapi.values import Pair, escaped, in_cookie, in_header, in_path, in_query, text_of
from tool_adapters.tool import CallContext, InvalidArguments
from tool_adapters.web import Request

USER_AGENT = "milepost"
FILE_LIMIT = 32 * 1024 * 1024
_DATA = re.compile(r"data:([\w.+/-]*)((?:;[\w.+=-]+)*?)(;base64)?,(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What tells an API who asks, ready to send. Never shown."""

    headers: Mapping[str, str] = field(default_factory=dict)
    query: tuple[Pair, ...] = ()
    cookies: tuple[str, ...] = ()


async def request_of(
    call: Call, server: str, arguments: Mapping[str, object], credentials: Credentials, context: CallContext, *,
    tries: bool = False,
) -> Request:  # fmt: skip
    """The request. tries: with the parameter that makes the API only try it.

    Raises InvalidArguments for what cannot be put into it, and what loading a file raises.
    """
    headers = {"user-agent": USER_AGENT, "accept": _accept(call)}
    cookies: list[str] = []
    for each in call.parameters:
        if each.place in ("header", "cookie") and arguments.get(each.argument) is not None:
            value = arguments[each.argument]
            if each.place == "header":
                headers[each.name.lower()] = in_header(each, value)
            else:
                cookies.append(in_cookie(each, value))
    body = None
    if call.body is not None and call.body.argument in arguments:
        body, headers["content-type"] = await _body(call.body, arguments[call.body.argument], context)
    if call.key_header and context.write_key:
        headers[call.key_header.lower()] = context.write_key
    secrets = dict(credentials.headers)
    if cookies or credentials.cookies:
        secrets["cookie"] = "; ".join((*cookies, *credentials.cookies))
    query = [pair for each in call.parameters if each.place == "query" for pair in in_query(each, arguments.get(each.argument))]
    query.extend((escaped(name), escaped(value)) for name, value in credentials.query)
    if tries and call.dry_run:
        query.append((escaped(call.dry_run[0]), escaped(call.dry_run[1])))
    return Request(call.method, url_of(server, call.path, call.parameters, arguments, query), headers, secrets, body)


def url_of(
    server: str, path: str, parameters: tuple[Parameter, ...], arguments: Mapping[str, object], query: list[Pair]
) -> str:  # fmt: skip
    """The whole address. Raises InvalidArguments."""
    for each in parameters:
        if each.place == "path":
            path = path.replace("{" + each.name + "}", in_path(each, arguments.get(each.argument)))
    asked = "&".join(f"{name}={value}" for name, value in query)
    if asked:
        asked = ("&" if "?" in path else "?") + asked
    return f"{server}{path if path.startswith('/') else '/' + path}{asked}"


def _accept(call: Call) -> str:
    for kind in call.expects:
        if kind == "application/json":
            return kind
    json_kinds = [kind for kind in call.expects if kind.endswith("json")]
    return ", ".join(json_kinds[:1] or call.expects[:4]) or "application/json, */*;q=0.5"


async def _body(body: Body, value: object, context: CallContext) -> tuple[bytes, str]:
    """The bytes, and their media type."""
    if body.kind == "json":
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), body.media_type.replace(
            "*/*", "application/json"
        )
    if body.kind == "text":
        return text_of(value).encode(), body.media_type if "charset" in body.media_type else f"{body.media_type}; charset=utf-8"
    if body.kind == "bytes":
        data, media_type = await _file(value, context, body.argument)
        return data, body.media_type if "*" not in body.media_type else media_type
    if not isinstance(value, Mapping):
        raise InvalidArguments(f"{body.argument} is sent as a form and has to be an object.")
    if body.kind == "form":
        return "&".join(f"{name}={each}" for name, each in _fields(body, value)).encode(), "application/x-www-form-urlencoded"
    return await _parts(body, value, context)


def _fields(body: Body, value: Mapping[str, object]) -> Iterator[Pair]:
    for name, each in value.items():
        style = body.styles.get(name, "form")
        as_json = isinstance(each, Mapping) and name not in body.styles
        yield from in_query(Parameter(argument=name, name=name, place="query", style=style, as_json=as_json), each)


async def _parts(body: Body, value: Mapping[str, object], context: CallContext) -> tuple[bytes, str]:
    """multipart/form-data: files by reference, other values as text, objects as JSON."""
    import httpx

    parts: list[tuple[str, tuple[str | None, bytes, str | None]]] = []
    for name, given in value.items():
        for each in given if isinstance(given, list) else [given]:
            if name in body.files:
                data, media_type = await _file(each, context, name)
                parts.append((name, (name, data, media_type)))
            elif each is not None:
                kind = "application/json" if isinstance(each, Mapping | list) else None
                parts.append((name, (None, text_of(each).encode(), kind)))
    made = httpx.Request("POST", "http://form", files=parts)
    return made.read(), made.headers["content-type"]


async def _file(value: object, context: CallContext, argument: str) -> tuple[bytes, str]:
    """Bytes and their media type: of a `payload:` reference, of a data: address, or of the text itself."""
    if not isinstance(value, str):
        raise InvalidArguments(f"{argument} is a file: give a payload: reference, a data: address, or its text.")
    if value.startswith("payload:"):
        if context.load is None:
            raise InvalidArguments(f"{argument} cannot be read.", why="this host has no payload store")
        data, media_type = await context.load(value), "application/octet-stream"
    elif match := _DATA.fullmatch(value):
        try:
            data = base64.b64decode(match[4], validate=True) if match[3] else match[4].encode()
        except (binascii.Error, ValueError) as error:
            raise InvalidArguments(f"{argument} is no sound data: address.", why=str(error)[:100]) from error
        media_type = match[1] or "text/plain"
    else:
        data, media_type = value.encode(), "text/plain; charset=utf-8"
    if len(data) > FILE_LIMIT:
        raise InvalidArguments(f"{argument} has {len(data):,} bytes, the limit is {FILE_LIMIT:,}.")
    return data, media_type
