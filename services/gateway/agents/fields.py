"""Fields that nobody reads: a name that is misspelt would otherwise be passed over without a word."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class UnknownField:
    """A field that is not there. close: the one that may be meant; empty if none is near."""

    field: str
    close: str


def first_unknown(values: Mapping[str, object], kind: type[BaseModel]) -> UnknownField | None:
    """The first field of the values, at any depth, that the model does not have."""
    for field in _unknown(values, kind):
        names = [name.split(".")[-1] for name in _names(kind)]
        return UnknownField(field, next(iter(difflib.get_close_matches(field.split(".")[-1], names, n=1)), ""))
    return None


def _unknown(values: Mapping[str, object], kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """In a list, too: a condition of a rule that is misspelt would be none, and the rule fit all."""
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    for name, value in values.items():
        if name not in fields:
            yield prefix + str(name)
            continue
        inner = _model(fields[name].annotation)
        for each in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(each, dict):
                yield from _unknown(each, inner, f"{prefix}{name}.")


def _model(annotation: object) -> type[BaseModel] | None:
    """The model that a field holds, alone, in a tuple, or beside None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model(each)) is not None), None)


def _names(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield prefix + name
        if (inner := _model(field.annotation)) is not None:
            yield from _names(inner, f"{prefix}{name}.")
