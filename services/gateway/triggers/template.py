"""Templates of a builder over what an event says: a small part of Jinja2 whose time, memory and output are bounded.

What comes from the event is shown so that it cannot pass for the builder's words: a single word as it is, a text in quotation
marks on one line, anything else as JSON; `{{ payload.text | quoted }}` puts a longer text into lines of its own, each behind
a mark. The same template also gives the builder's own words alone, which is all that may name something for a write.

Allowed are output, if, set, for (two deep, the first 100 items) and the filters below. There are no calls, no arithmetic and
no imports: a template cannot run for long, nor make much of little.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from jinja2 import ChainableUndefined, TemplateError, nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.opening import one_line, quoted
from schemas.errors import MilepostError

LONGEST = 20_000
LONGEST_VALUE = 4_000
_ITEMS = 100
_WORD = re.compile(r"[^\s\"'`<>{}|\\]{1,200}")
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.If,
    nodes.For, nodes.Assign, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
    nodes.CondExpr, nodes.Tuple, nodes.List,
)  # fmt: skip
_TESTS = frozenset({"defined", "undefined", "none", "string", "number", "mapping", "sequence", "true", "false", "boolean"})


class BadTemplate(MilepostError):
    """A template gave no text, or too much of it."""


class Shown(str):
    """Text of an event as it is to be read."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template came to. said: of the text, the builder's own words."""

    text: str
    said: str


def check(source: str) -> None:
    """Raises ValueError for what is no template, or uses what is not allowed."""
    _template(_SHOWING, source)


def render(source: str, values: Mapping[str, object]) -> Rendered:
    """Fill a template in. Raises BadTemplate."""
    try:
        text, said = (_filled(environment, source, values) for environment in (_SHOWING, _SAYING))
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise BadTemplate("The template does not fit what came.", why=str(error), hint="milepost triggers test NAME") from error
    if not text.strip():
        raise BadTemplate("The template gives no text for what came.", hint="milepost triggers test NAME --payload FILE")
    return Rendered(text.strip(), said.strip())


def key(source: str, values: Mapping[str, object]) -> str:
    """A template of a key, filled in. Raises BadTemplate."""
    return render(source, values).text


# --- how values are shown -------------------------------------------------------------------------


def _shown(value: object) -> str:
    """What an expression gives, where it stands in the text."""
    if isinstance(value, Shown):
        return value
    if value is None or isinstance(value, ChainableUndefined):
        return ""
    if isinstance(value, str):
        text = one_line(_cut(value))
        return text if not text or _WORD.fullmatch(text) else f'"{text.replace(chr(34), chr(39))}"'
    return one_line(_cut(json.dumps(value, ensure_ascii=False, default=str)))


def _nothing(value: object) -> str:
    return ""


def _quoted(value: object) -> Shown:
    return Shown("" if value is None or isinstance(value, ChainableUndefined) else f"\n{quoted(_cut(_plain(value)))}\n")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# --- filters, each bounded by what it is given ----------------------------------------------------


def _join(values: object, between: object = ", ") -> str:
    found = list(islice(values, _ITEMS)) if isinstance(values, Iterable) else []
    return _cut(_plain(between)[:20].join(_plain(each)[:LONGEST_VALUE] for each in found))


def _default(value: object, other: object = "", empty: object = True) -> object:
    missing = value is None or isinstance(value, ChainableUndefined) or (bool(empty) and value == "")
    return other if missing else value


def _first(values: object) -> object:
    return values[0] if isinstance(values, list | tuple | str) and values else None


def _last(values: object) -> object:
    return values[-1] if isinstance(values, list | tuple | str) and values else None


_FILTERS = {
    "join": _join, "default": _default, "first": _first, "last": _last, "quoted": _quoted,
    "upper": lambda value: _plain(value).upper(), "lower": lambda value: _plain(value).lower(),
    "trim": lambda value: _plain(value).strip(), "length": lambda value: len(value) if hasattr(value, "__len__") else 0,
    "short": lambda value: _plain(value)[:100], "json": lambda value: _cut(json.dumps(value, ensure_ascii=False, default=str)),
}  # fmt: skip


# --- templates ------------------------------------------------------------------------------------


class _Environment(ImmutableSandboxedEnvironment):
    """Knows values as JSON has them: a field is a field, whatever methods a dict has."""

    def getattr(self, obj: object, attribute: str) -> object:
        return super().getattr(obj, attribute) if isinstance(obj, LoopContext) else self.getitem(obj, attribute)

    def getitem(self, obj: object, argument: object) -> object:
        if isinstance(obj, Mapping):
            return obj[argument] if argument in obj else self.undefined()
        if isinstance(obj, list | tuple | str) and isinstance(argument, int) and -len(obj) <= argument < len(obj):
            return obj[argument]
        return self.undefined()


def _environment(finalize: object) -> _Environment:
    made = _Environment(
        autoescape=False, undefined=ChainableUndefined, finalize=finalize, optimized=False,
        keep_trailing_newline=True, cache_size=0,
    )  # fmt: skip
    made.globals.clear()
    made.filters = {**_FILTERS, "milepost_items": lambda values: islice(values, _ITEMS)}
    made.tests = {name: test for name, test in made.tests.items() if name in _TESTS}
    return made


_SHOWING = _environment(_shown)
_SAYING = _environment(_nothing)


@lru_cache(maxsize=512)
def _template(environment: _Environment, source: str) -> object:
    try:
        tree = environment.parse(source)
        _only_allowed(tree, 0)
        return environment.template_class.from_code(environment, environment.compile(tree), environment.globals)
    except (TemplateError, RecursionError, SyntaxError) as error:
        raise ValueError(f"this is no template: {error}") from error


def _only_allowed(node: nodes.Node, loops: int) -> None:
    """Raises ValueError. Bounds the loops that it finds."""
    if not isinstance(node, _NODES):
        raise ValueError(f"a template may not use {type(node).__name__.lower()}")
    if isinstance(node, nodes.List | nodes.Tuple) and not all(isinstance(each, nodes.Const) for each in node.items):
        raise ValueError("a list in a template holds plain values only")
    if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
        raise ValueError(f"a template has no filter {node.name}; there are {', '.join(sorted(_FILTERS))}")
    if isinstance(node, nodes.Test) and node.name not in _TESTS:
        raise ValueError(f"a template has no test {node.name}; there are {', '.join(sorted(_TESTS))}")
    inside = loops
    if isinstance(node, nodes.For):
        if node.recursive or loops == 2:
            raise ValueError("loops may stand two deep, and not be recursive")
        inside += 1
    for child in node.iter_child_nodes():
        _only_allowed(child, inside)
    if isinstance(node, nodes.For):
        node.iter = nodes.Filter(node.iter, "milepost_items", [], [], None, None, environment=node.environment)


def _filled(environment: _Environment, source: str, values: Mapping[str, object]) -> str:
    pieces, length = [], 0
    template = _template(environment, source)
    for piece in template.generate(dict(values)):  # type: ignore[attr-defined]  # a jinja2 template
        length += len(piece)
        if length > LONGEST:
            raise ValueError(f"it gives more than {LONGEST} characters")
        pieces.append(piece)
    return "".join(pieces)
