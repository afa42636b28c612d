"""Secrets in arguments: a model gives their names, and only the host of the tool finds out what they are.

An argument is a secret where its schema says `format: password`, `writeOnly` or `x-secret`. It is written `env:NAME` or
`file:NAME`; what a model may name is kept apart from what the process itself has: variables whose names begin with
MILEPOST_SECRET_, and files of one folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tool_adapters.tool import InvalidArguments

PREFIX = "MILEPOST_SECRET_"
FILE_BYTES = 64 * 1024
_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Secrets:
    """What references lead to. folder: where `file:` looks; without it no file is read."""

    folder: Path | None = None

    def read(self, reference: object, place: str) -> str:
        """The secret itself. Raises InvalidArguments for what is no reference, or leads nowhere."""
        scheme, _, name = str(reference).partition(":")
        if scheme == "env" and name.startswith(PREFIX):
            if value := os.environ.get(name):
                return value
            raise _refused(place, f"{name} is not set where the tool runs", f"set {name} for the tools service")
        if scheme == "file" and self.folder is not None:
            return self._file(self.folder.resolve(), name, place)
        where = f"`env:{PREFIX}NAME`" + (" or `file:NAME`" if self.folder else "")
        raise _refused(place, "a secret is never said, only named", f"write {where}")

    def _file(self, folder: Path, name: str, place: str) -> str:
        path = (folder / name).resolve()
        if folder not in path.parents:
            raise _refused(place, "the file is outside the folder of secrets", f"put it into {folder}")
        try:
            with path.open("rb") as file:
                return file.read(FILE_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(place, "its file cannot be read", f"put it into {folder}") from error


def resolved(
    parameters: Mapping[str, object], arguments: dict[str, object], secrets: Secrets
) -> tuple[dict[str, object], tuple[str, ...]]:
    """The arguments with their secrets in place, and the secrets. Raises InvalidArguments where one is not referred to."""
    found: list[str] = []

    def walk(schemas: list[Mapping[str, object]], value: object, place: str, depth: int) -> object:
        schemas = list(_alternatives(schemas, parameters, depth))
        if value is not None and any(_is_secret(each) for each in schemas):
            found.append(secrets.read(value, place))
            return found[-1]
        if isinstance(value, dict) and depth < _DEPTH:
            return {name: walk(_below(schemas, name), each, f"{place}.{name}", depth + 1) for name, each in value.items()}
        if isinstance(value, list) and depth < _DEPTH:
            return [walk(_items(schemas), each, place, depth + 1) for each in value]
        return value

    return {name: walk(_below([parameters], name), each, name, 0) for name, each in arguments.items()}, tuple(found)


def has_secrets(parameters: Mapping[str, object]) -> bool:
    """Whether any argument could be one; a quick look that may say yes too often."""
    text = repr(parameters)
    return "password" in text or "writeOnly" in text or "x-secret" in text


def _is_secret(schema: Mapping[str, object]) -> bool:
    return schema.get("format") == "password" or schema.get("writeOnly") is True or bool(schema.get("x-secret"))


def _alternatives(
    schemas: list[Mapping[str, object]], root: Mapping[str, object], depth: int
) -> Iterator[Mapping[str, object]]:
    """The schemas, and all that they refer to or are composed of."""
    for schema in schemas:
        yield schema
        if depth >= _DEPTH:
            continue
        parts = [each for word in ("allOf", "anyOf", "oneOf") for each in _list(schema.get(word)) if isinstance(each, Mapping)]
        if isinstance(ref := schema.get("$ref"), str) and (found := _referred(root, ref)) is not None:
            parts.append(found)
        yield from _alternatives(parts, root, depth + 4)


def _referred(root: Mapping[str, object], ref: str) -> Mapping[str, object] | None:
    found: object = root
    for step in ref.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found if ref.startswith("#") and isinstance(found, Mapping) else None


def _below(schemas: list[Mapping[str, object]], name: str) -> list[Mapping[str, object]]:
    """What is said about one property."""
    found = []
    for schema in schemas:
        properties = schema.get("properties")
        inner = properties.get(name) if isinstance(properties, Mapping) else None
        inner = schema.get("additionalProperties") if inner is None else inner
        found += [inner] if isinstance(inner, Mapping) else []
    return found


def _items(schemas: list[Mapping[str, object]]) -> list[Mapping[str, object]]:
    return [inner for schema in schemas if isinstance(inner := schema.get("items"), Mapping)]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _refused(place: str, why: str, hint: str) -> InvalidArguments:
    return InvalidArguments(f"The argument {place} is a secret and must be a reference.", why=why, hint=hint)
