"""Tools and parameters under other names, so that a model must read what they do: Hammer's function masking (arXiv 2410.04587).

A name is replaced in cards, calls and results alike; what people say stays as it is. Neutral names tell nothing (`tool_3`,
`arg_b`); paraphrased ones say the same in other words or in another way of writing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random

import orjson

from schemas.canonical import JsonObject
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[A-Z]")
_SAME = {
    "get": "fetch retrieve read lookup", "fetch": "get retrieve load", "retrieve": "get fetch read",
    "search": "find query lookup", "find": "search locate lookup", "query": "search lookup check", "create": "add make new",
    "add": "create insert append", "make": "create build prepare", "delete": "remove erase drop",
    "remove": "delete drop clear", "update": "change edit modify", "modify": "change edit update",
    "set": "configure assign put", "change": "update modify adjust", "list": "show enumerate all",
    "show": "display view list", "check": "verify inspect test", "calculate": "compute work_out determine",
    "compute": "calculate evaluate", "book": "reserve order", "reserve": "book hold", "buy": "purchase order",
    "send": "deliver transmit post", "play": "start run", "open": "launch start", "start": "begin launch run",
    "stop": "end halt", "cancel": "revoke withdraw drop", "convert": "transform change", "translate": "render convert",
    "generate": "produce make build", "analyze": "examine study inspect", "track": "follow trace monitor",
    "name": "title label", "title": "name heading", "location": "place where site", "city": "town place",
    "place": "location spot", "date": "day when", "time": "hour moment when", "number": "count amount quantity",
    "count": "number total", "amount": "sum value quantity", "price": "cost fee", "cost": "price", "type": "kind category",
    "kind": "type sort", "category": "type class", "id": "identifier key ref", "text": "content words",
    "content": "text body", "message": "text note", "user": "person account", "person": "user individual", "email": "mail",
    "phone": "telephone", "address": "location street", "language": "tongue locale", "limit": "max_count at_most",
    "unit": "measure scale", "info": "details data", "information": "details data", "details": "info", "data": "records info",
    "status": "state condition", "keyword": "term word", "duration": "length period", "destination": "target goal",
    "origin": "source departure", "weather": "forecast conditions", "movie": "film", "song": "track", "hotel": "lodging",
    "flight": "plane_trip", "restaurant": "eatery", "event": "happening occasion", "new": "fresh", "max": "top",
    "min": "least", "value": "amount figure", "size": "extent dimension", "file": "document", "image": "picture photo",
}  # fmt: skip
_PREFIXES = ("tool", "fn", "func", "api", "op", "action", "skill", "f")
_FIELDS = ("arg", "param", "p", "field", "input", "x", "slot", "value")


def words_of(name: str) -> list[str]:
    """The words that a name is put together from, in lower case: getHTTPCode_v2 is get, http, code, v, 2."""
    return [word.lower() for word in _WORD.findall(name)]


def renamed(example: Example, dice: Random, *, tools: bool = True, parameters: bool = True, neutral: float = 0.5) -> Example:
    """The same conversation with other names. neutral: the share of names that tell nothing; the others are paraphrased.

    Whether a conversation gets the ones or the others is drawn once for all its tools, and once for all their parameters.
    """
    plain = neutral > dice.random(), neutral > dice.random()
    names: dict[str, str] = {}
    if tools:
        make = _neutral(_PREFIXES, dice) if plain[0] else _paraphrased(dice)
        for card in example.tools:
            names[card.name] = _free(make, card.name, {*names.values(), *(each.name for each in example.tools)})
    fields: dict[str, dict[str, str]] = {card.name: {} for card in example.tools}
    for card in example.tools if parameters else ():
        make = _neutral(_FIELDS, dice) if plain[1] else _paraphrased(dice)
        known = sorted(property_names(card.parameters))
        for name in known:
            taken = {*fields[card.name].values(), *known}
            fields[card.name][name] = _free(make, name, taken)
    return _Renaming(names, fields).example(example)


def _neutral(prefixes: tuple[str, ...], dice: Random) -> Callable[[str, int], str]:
    prefix = dice.choice(prefixes)
    kind = dice.randrange(3)

    def make(_: str, attempt: int) -> str:
        if kind == 0:
            return f"{prefix}_{dice.randrange(1, 30 + attempt)}"
        if kind == 1:
            return prefix + "_" + "".join(dice.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(1 + attempt // 8))
        return prefix[0] + "".join(dice.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(5))

    return make


def _paraphrased(dice: Random) -> Callable[[str, int], str]:
    style = dice.randrange(4)

    def make(name: str, attempt: int) -> str:
        words = words_of(name) or ["it"]
        words = [dice.choice(_SAME[word].split()) if word in _SAME and dice.random() < 0.7 else word for word in words]
        if len(words) > 1 and dice.random() < 0.3:
            words = [*words[1:], words[0]]
        if attempt > 6:
            words.append(str(attempt))
        parts = [piece for word in words for piece in word.split("_")]
        if style == 0:
            return parts[0] + "".join(map(str.capitalize, parts[1:]))
        return "".join(map(str.capitalize, parts)) if style == 1 else "_".join(parts)

    return make


def _free(make: Callable[[str, int], str], name: str, taken: set[str]) -> str:
    """A name that nothing else has; the one it had, where no other is found."""
    for attempt in range(40):
        made = make(name, attempt)[:64].strip("_-")
        if made and made not in taken:
            return made
    return name


def property_names(schema: object) -> set[str]:
    """The names of all properties in a JSON Schema, nested ones too."""
    found: set[str] = set()
    if isinstance(schema, Mapping):
        inner = schema.get("properties")
        if isinstance(inner, Mapping):
            found.update(str(name) for name in inner)
            for each in inner.values():
                found |= property_names(each)
        for key, each in schema.items():
            if key != "properties":
                found |= property_names(each)
    elif isinstance(schema, list):
        for each in schema:
            found |= property_names(each)
    return found


class _Renaming:
    """names: of tools; fields: of each tool's parameters, by the tool's old name."""

    def __init__(self, names: Mapping[str, str], fields: Mapping[str, Mapping[str, str]]) -> None:
        self._names, self._fields = names, fields
        # A common word such as `search` is no name where somebody says it: only what is put together is.
        told = [name for name in names if len(words_of(name)) > 1]
        self._told = (
            re.compile(r"(?<![A-Za-z0-9_-])(?:" + "|".join(map(re.escape, told)) + r")(?![A-Za-z0-9_-])") if told else None
        )

    def example(self, example: Example) -> Example:
        asked: list[str] = []
        said = []
        for message in example.messages:
            if message.calls:
                asked = [call.name for call in message.calls]
            of = (message.name or (asked.pop(0) if asked else "")) if message.role == "tool" else ""
            said.append(self._message(message, of))
        tools = tuple(map(self._card, example.tools))
        return replace(example, system=self._text(example.system), tools=tools, messages=tuple(said))

    def _card(self, card: ToolCard) -> ToolCard:
        fields = self._fields.get(card.name, {})
        return card.model_copy(
            update={
                "name": self._names.get(card.name, card.name), "title": "", "examples": tuple(map(self._text, card.examples)),
                "description": self._worded(card.description, fields), "parameters": self._schema(card.parameters, fields),
                "undo": self._names.get(card.undo, card.undo) if card.undo else None,
            }
        )  # fmt: skip

    def _message(self, message: Message, tool: str) -> Message:
        change: dict[str, object] = {}
        if message.calls:
            change["calls"] = tuple(map(self._call, message.calls))
        if message.role == "tool":
            change["name"] = self._names.get(message.name, message.name) if message.name else None
            change["content"] = self._result(message.content, self._fields.get(tool, {}))
        elif message.role == "assistant":
            change["content"] = self._text(message.content)
        if message.tools:
            change["tools"] = tuple(map(self._card, message.tools))
        return message.model_copy(update=change) if change else message

    def _call(self, call: ToolCall) -> ToolCall:
        arguments = _keyed(call.arguments, self._fields.get(call.name, {}))
        return call.model_copy(update={"name": self._names.get(call.name, call.name), "arguments": arguments})

    def _result(self, text: str, fields: Mapping[str, str]) -> str:
        """A result of JSON that says the call again says it by the new names."""
        if fields and text[:1] in ("{", "["):
            with suppress(ValueError):  # it only looks like JSON
                text = orjson.dumps(_keyed(orjson.loads(text), fields)).decode()
        return self._text(text)

    def _schema(self, schema: JsonObject, fields: Mapping[str, str]) -> JsonObject:
        made = self._inner(schema, fields)
        assert isinstance(made, dict)
        return made

    def _inner(self, schema: object, fields: Mapping[str, str]) -> object:
        if isinstance(schema, list):
            return [self._inner(each, fields) for each in schema]
        if not isinstance(schema, dict):
            return schema
        made: JsonObject = {}
        for key, each in schema.items():
            if key == "properties" and isinstance(each, dict):
                made[key] = {fields.get(name, name): self._inner(inner, fields) for name, inner in each.items()}
            elif key == "required" and isinstance(each, list):
                made[key] = [fields.get(name, name) if isinstance(name, str) else name for name in each]
            elif key in ("description", "title") and isinstance(each, str):
                made[key] = self._worded(each, fields)
            elif key in ("enum", "const", "default", "examples"):
                made[key] = _keyed(each, fields)
            else:
                made[key] = self._inner(each, fields)
        return made

    def _text(self, text: str) -> str:
        return self._told.sub(lambda found: self._names[found[0]], text) if self._told else text

    def _worded(self, text: str, fields: Mapping[str, str]) -> str:
        """A description that speaks of parameters by name does so by their new ones."""
        text = self._text(text)
        told = [name for name in fields if len(words_of(name)) > 1 or f"`{name}`" in text or f"'{name}'" in text]
        if not told:
            return text
        pattern = r"(?<![A-Za-z0-9_-])(?:" + "|".join(map(re.escape, told)) + r")(?![A-Za-z0-9_-])"
        return re.sub(pattern, lambda found: fields[found[0]], text)


def _keyed(value: object, fields: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {fields.get(name, name): _keyed(inner, fields) for name, inner in value.items()}
    return [_keyed(inner, fields) for inner in value] if isinstance(value, list) else value
