"""An OpenAPI document (3.x) or a Swagger one (2.0), JSON or YAML, and its operations with all references followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import orjson
import yaml

from schemas.errors import MilepostError

Object: TypeAlias = Mapping[str, object]

METHODS = ("get", "head", "options", "trace", "post", "put", "patch", "delete")
_FOLLOWED = 16


class InvalidDocument(MilepostError):
    """It is no OpenAPI document that tools can be made of."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing the API does. parameters: those of its path and its own; body: the schema of what is sent, if any is.

    media_type: of the body; encoding: of its properties, where it is a form. servers: its own, or its path's.
    """

    path: str
    method: str
    said: Object
    parameters: tuple[Object, ...] = ()
    body: Object | None = None
    body_needed: bool = False
    media_type: str = ""
    encoding: Object = field(default_factory=dict)
    servers: tuple[Object, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was read."""

    root: Object
    title: str
    swagger: bool = field(default=False)

    def operations(self) -> Iterator[Operation]:
        """Every operation, in the order of the document."""
        paths = self.root.get("paths")
        for path, item in paths.items() if isinstance(paths, Mapping) else ():
            here = self.followed(item)
            for method in METHODS:
                said = self.followed(here.get(method))
                if isinstance(here.get(method), Mapping):
                    yield self._operation(str(path), method, here, said)

    def has(self, path: str, method: str) -> bool:
        """Whether a path can be called so."""
        paths = self.root.get("paths")
        item = self.followed(paths.get(path)) if isinstance(paths, Mapping) else {}
        return isinstance(item.get(method), Mapping)

    def path_of(self, operation: str) -> str | None:
        """Where the operation of that operationId stands."""
        return next((each.path for each in self.operations() if each.said.get("operationId") == operation), None)

    def followed(self, value: object) -> Object:
        """The object itself, or the one a `$ref` leads to inside this document; empty where there is none."""
        for _ in range(_FOLLOWED):
            if not isinstance(value, Mapping):
                return {}
            reference = value.get("$ref")
            if not isinstance(reference, str):
                return value
            value = self._at(reference)
        return {}

    def _at(self, reference: str) -> object:
        place: object = self.root if reference.startswith("#") else None
        for step in reference.removeprefix("#").strip("/").split("/"):
            name = step.replace("~1", "/").replace("~0", "~").replace("%7B", "{").replace("%7D", "}")
            if isinstance(place, Mapping):
                place = place.get(name)
            elif isinstance(place, list) and name.isdigit() and int(name) < len(place):
                place = place[int(name)]
            else:
                return None
        return place

    def _operation(self, path: str, method: str, item: Object, said: Object) -> Operation:
        given: dict[tuple[str, str], Object] = {}
        for each in (*_list(item.get("parameters")), *_list(said.get("parameters"))):
            parameter = self.followed(each)
            given[text_of(parameter.get("name")), text_of(parameter.get("in"))] = parameter
        inside = [each for each in given.values() if each.get("in") not in ("body", "formData")]
        one = Operation(path, method, said, tuple(inside))
        one = self._swagger_body(one, list(given.values())) if self.swagger else self._body(one)
        servers = tuple(self.followed(each) for each in _list(said.get("servers")) or _list(item.get("servers")))
        return replace(one, servers=servers)

    def _body(self, one: Operation) -> Operation:
        request = self.followed(one.said.get("requestBody"))
        content = request.get("content")
        if not isinstance(content, Mapping) or not content:
            return one
        kind = min(content, key=_liking)
        said = self.followed(content[kind])
        encoding = said.get("encoding")
        return replace(
            one, body=self.followed(said.get("schema")), body_needed=request.get("required") is True, media_type=str(kind),
            encoding=encoding if isinstance(encoding, Mapping) else {},
        )  # fmt: skip

    def _swagger_body(self, one: Operation, given: list[Object]) -> Operation:
        consumes = [text_of(each) for each in _list(one.said.get("consumes")) or _list(self.root.get("consumes"))]
        for each in given:
            if each.get("in") == "body":
                media_type = min(consumes or ["application/json"], key=_liking)
                needed = each.get("required") is True
                return replace(one, body=self.followed(each.get("schema")), body_needed=needed, media_type=media_type)
        fields = {text_of(each.get("name")): each for each in given if each.get("in") == "formData"}
        if not fields:
            return one
        required = [name for name, each in fields.items() if each.get("required") is True]
        parts = any(each.get("type") == "file" for each in fields.values()) or consumes == ["multipart/form-data"]
        return replace(
            one, body={"type": "object", "properties": fields, "required": required}, body_needed=bool(required),
            media_type="multipart/form-data" if parts else "application/x-www-form-urlencoded",
        )  # fmt: skip


def read(raw: bytes) -> Document:
    """The document. Raises InvalidDocument for what is neither JSON nor YAML, and for what has no paths."""
    root = _parsed(raw)
    if not isinstance(root, dict) or not isinstance(root.get("paths"), dict):
        raise InvalidDocument(
            "This is no OpenAPI document.", why="it has no `paths`", hint="give an OpenAPI 3.x or Swagger 2.0 file"
        )
    version = text_of(root.get("openapi") or root.get("swagger"))
    if not version.startswith(("2.", "3.")):
        raise InvalidDocument(
            "This OpenAPI document is of a version that is not known.", why=f"it says {version or 'nothing'}",
            hint="versions 2.0 and 3.x can be read",
        )  # fmt: skip
    if not root["paths"]:
        raise InvalidDocument("This OpenAPI document has no operations.", why="its `paths` are empty")
    info = root.get("info")
    title = text_of(info.get("title")) if isinstance(info, dict) else ""
    return Document(root, " ".join(title.split())[:80] or "API", swagger=version.startswith("2."))


def text_of(value: object) -> str:
    """What stands where a text belongs; nothing for lists and objects, whose aliases in YAML may unfold without end."""
    return str(value) if isinstance(value, str | int | float) else ""


def _liking(media_type: object) -> tuple[bool, ...]:
    """Which of several kinds of body is sent: JSON, the part of a thing that changes before a list of changes, then forms."""
    kind = str(media_type).partition(";")[0].strip()
    return (kind != "application/json", not kind.endswith("merge-patch+json"), "json" not in kind, "form" not in kind)


_DEEPEST = (
    200  # schemas that are written out in place of references are deep; recursion in C takes the stack at some ten thousand
)


class _Loader(yaml.CSafeLoader):
    """YAML as JSON has it (1.2): a date stays the text that it is, and only true and false are truth values."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers
        if not tag.endswith(":timestamp") and (first in "tTfF" or not tag.endswith(":bool"))
    ]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}  # fmt: skip


def _check_depth(raw: bytes) -> None:
    """Raises ValueError before a text is put together that would take the process's stack, or for ever."""
    depth = 0
    for event in yaml.parse(raw, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"it is nested deeper than {_DEEPEST}")


def _parsed(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as no_json:
        try:
            _check_depth(raw)
            return yaml.load(raw, Loader=_Loader)  # a safe loader: it makes plain values only
        except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
            no_yaml = " ".join(str(error).split())[:150]
            raise InvalidDocument(
                "This is no OpenAPI document.", why=f"it is neither JSON ({no_json}) nor YAML ({no_yaml})",
                hint="give an OpenAPI 3.x or Swagger 2.0 file",
            ) from error  # fmt: skip


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
