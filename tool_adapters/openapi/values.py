"""Values as they are spelt in paths, queries, headers and cookies.

After "Style Values" and "Style Examples" of the OpenAPI specification 3.1, which follows RFC 6570.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from tool_adapters.openapi.call import Parameter
from tool_adapters.tool import InvalidArguments

Pair = tuple[str, str]

_DELIMITERS = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}


def in_path(parameter: Parameter, value: object) -> str:
    """Percent-encoded; simple, label and matrix. Raises InvalidArguments for a value that would make another path."""
    safe = "/" if parameter.slashes else ""
    name, style, explode = parameter.name, parameter.style, parameter.explode
    if parameter.as_json:
        return escaped(_json(value), safe)
    if isinstance(value, Mapping):
        parts = [(escaped(str(key), safe), escaped(text_of(each), safe)) for key, each in value.items() if each is not None]
    else:
        parts = [("", escaped(text_of(each), safe)) for each in _items(value)]
    if style == "matrix":
        if explode:
            return "".join(f";{key or escaped(name)}={each}" for key, each in parts)
        return f";{escaped(name)}={_joined(parts, ',', '=' if explode else ',')}"
    if style == "label":
        return "." + _joined(parts, "." if explode else ",", "=" if explode else ",")
    said = _joined(parts, ",", "=" if explode else ",")
    if not said or (not parameter.slashes and said in (".", "..")) or (parameter.slashes and _climbs(said)):
        raise InvalidArguments(
            f"{parameter.argument} cannot be {value!r}.", why="it is part of a path, and would lead elsewhere"
        )
    return said


def in_query(parameter: Parameter, value: object) -> Iterator[Pair]:
    """Percent-encoded pairs; form, spaceDelimited, pipeDelimited and deepObject. Nothing for null."""
    name = escaped(parameter.name)
    if value is None:
        return
    if parameter.as_json:
        yield name, escaped(_json(value))
    elif parameter.style == "deepObject":
        yield from _deep(name, value)
    elif isinstance(value, Mapping):
        parts = [(escaped(str(key)), escaped(text_of(each))) for key, each in value.items() if each is not None]
        if parameter.explode:
            yield from parts
        elif parts:
            yield name, _delimiter(parameter).join(part for pair in parts for part in pair)
    elif isinstance(value, list):
        items = [escaped(text_of(each)) for each in value]
        if parameter.explode:
            yield from ((name, each) for each in items)
        elif items:
            yield name, _delimiter(parameter).join(items)
    else:
        yield name, escaped(text_of(value))


def in_header(parameter: Parameter, value: object) -> str:
    """As it stands in the header; simple. Raises InvalidArguments for line breaks."""
    if parameter.as_json:
        said = _json(value)
    elif isinstance(value, Mapping):
        pairs = [(str(key), text_of(each)) for key, each in value.items() if each is not None]
        said = _joined(pairs, ",", "=" if parameter.explode else ",")
    else:
        said = ",".join(text_of(each) for each in _items(value))
    if any(ord(char) < 32 or ord(char) == 127 for char in said):
        raise InvalidArguments(
            f"{parameter.argument} has a line break or another control character.", why="it is sent as a header"
        )
    return said.strip()


def in_cookie(parameter: Parameter, value: object) -> str:
    """`name=value`; form, one pair."""
    said = (
        _json(value) if parameter.as_json or isinstance(value, Mapping) else ",".join(text_of(each) for each in _items(value))
    )
    return f"{escaped(parameter.name)}={escaped(said)}"


def text_of(value: object) -> str:
    """A scalar as text, anything else as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return _json(value)


def escaped(text: str, safe: str = "") -> str:
    """Percent-encoded: all but letters, digits and `-._~`."""
    return quote(text, safe=safe)


def _deep(name: str, value: object) -> Iterator[Pair]:
    """name[key]=value, as deep as it goes; the items of a list repeat the name."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _deep(f"{name}%5B{escaped(str(key))}%5D", each)
    elif isinstance(value, list):
        for each in value:
            yield from _deep(f"{name}%5B%5D" if isinstance(each, Mapping | list) else name, each)
    elif value is not None:
        yield name, escaped(text_of(value))


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _joined(parts: list[Pair], between: str, inside: str) -> str:
    return between.join(f"{key}{inside}{each}" if key else each for key, each in parts)


def _delimiter(parameter: Parameter) -> str:
    return _DELIMITERS.get(parameter.style, ",")


def _climbs(path: str) -> bool:
    return any(segment in ("", ".", "..") for segment in path.split("/"))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
