"""The request that a call of Alibaba Cloud becomes.

RPC style puts everything into the query or a form; lists and objects become `Name.1`, `Name.1.Key`, `Name.Key`. ROA style has
a path with places and mostly one JSON body. A parameter that the metadata calls Json travels as JSON text in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote

from tool_adapters.described.api import ApiCall, Place
from tool_adapters.tool import InvalidArguments

_PLACE_IN_PATH = re.compile(r"\[([^\]]+)\]|\{([^}]+)\}")


@dataclass(frozen=True, slots=True)
class Request:
    """What goes over the wire. query and form: flat. body: JSON; None for none. host: goes before the endpoint."""

    path: str = "/"
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    body: object = None
    host: str = ""


def request_of(
    call: ApiCall, arguments: Mapping[str, object], *, region: str, token: str | None = None, dry_run: bool = False
) -> Request:  # fmt: skip
    """The request of a call. Raises InvalidArguments for a path that an argument is missing of."""
    given = dict(arguments)
    if call.region and region:
        given.setdefault(call.region, region)
    if call.token and token:
        given[call.token] = token
    if call.dry_run and dry_run:
        given[call.dry_run] = True
    by_place: dict[Place, dict[str, object]] = {}
    for name, value in given.items():
        if value is not None:
            by_place.setdefault(call.places.get(name, "query"), {})[name] = _as_text(call, name, value)
    bodies = list(by_place.get("body", {}).values())
    path, _, fixed = _path(call, by_place.get("path", {})).partition("?")
    return Request(
        path=path, query=dict(parse_qsl(fixed)) | flat(by_place.get("query", {})), form=flat(by_place.get("form", {})),
        headers={name: _plain(value) for name, value in by_place.get("header", {}).items()},
        body=bodies[0] if bodies else None, host="".join(f"{_host(value)}." for value in by_place.get("host", {}).values()),
    )  # fmt: skip


def flat(parameters: Mapping[str, object]) -> dict[str, str]:
    """Nested values as the flat names that RPC takes: `Tag.1.Key`."""
    found: dict[str, str] = {}

    def add(name: str, value: object) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{name}.{key}", inner)
        elif isinstance(value, list):
            for number, inner in enumerate(value, start=1):
                add(f"{name}.{number}", inner)
        elif value is not None:
            found[name] = _plain(value)

    for name, value in parameters.items():
        add(name, value)
    return found


def _as_text(call: ApiCall, name: str, value: object) -> object:
    if name in call.texts and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _path(call: ApiCall, given: Mapping[str, object]) -> str:
    """The path with its places filled: `/clusters/[ClusterId]/nodes`."""

    def fill(place: re.Match[str]) -> str:
        name = place[1] or place[2]
        value = _plain(given.get(name, ""))
        if not value or value in (".", ".."):
            raise InvalidArguments(f"{call.action} needs {name}: it is part of its address.")
        return quote(value, safe="~")

    return _PLACE_IN_PATH.sub(fill, call.path) if call.path else "/"


def _host(value: object) -> str:
    text = str(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", text):
        raise InvalidArguments(f"{text[:80]} cannot be part of a host name.", why="it may have letters, digits and hyphens")
    return text
