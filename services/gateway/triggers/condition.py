"""Conditions on what an event says: JMESPath (jmespath.org), whose cost is bounded by what it is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from schemas.canonical import JsonObject

_COPIES = 8  # lists made in an expression: each level may double what it is given
_NODES = 100


def check(expression: str) -> None:
    """Raises ValueError."""
    _compiled(expression)


def holds(expression: str, payload: JsonObject) -> bool:
    """Whether the expression is true of the payload; one that cannot be evaluated is not. An empty one always is."""
    if not expression:
        return True
    try:
        return _compiled(expression).search(payload) is True
    except (JMESPathError, RecursionError, TypeError, ValueError):
        return False


@lru_cache(maxsize=512)
def _compiled(expression: str) -> ParsedResult:
    try:
        found = jmespath.compile(expression)
    except (JMESPathError, RecursionError) as error:
        raise ValueError(f"{expression!r} is no JMESPath expression: {error}") from error
    nodes = list(_nodes(found.parsed))
    copies = sum(len(each["children"]) for each in nodes if each["type"] in ("multi_select_list", "multi_select_dict"))
    if len(nodes) > _NODES or copies > _COPIES:
        raise ValueError(f"{expression!r} is too large: at most {_NODES} parts, {_COPIES} of them in lists it makes")
    return found


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:  # the parser's own type
    yield node
    for child in node.get("children", ()):
        if isinstance(child, Mapping):
            yield from _nodes(child)
