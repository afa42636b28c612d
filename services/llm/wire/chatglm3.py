"""ChatGLM3's form: the name on a line, then a fenced line of Python, tool_call(city="Beijing")."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Callable, Mapping, Sequence

from schemas.canonical import JsonObject
from schemas.messages import Message
from schemas.tools import ToolCard
from services.llm.calls import Schema, argument_names, arguments_schema, json_rule, ordered, required_names, written
from services.llm.wire.form import Asked, Language, Malformed, Markup, Name, Parameters, Reply, Role, Text, Wire, function
from services.llm.wire.reading import LIMIT, object_at, skip_blanks, value_at

CALL = "tool_call("
HEAD = re.compile(r"^\s*(?P<name>\S+)[ \t]*\n\s*```(?:python)?\s*" + re.escape(CALL), re.MULTILINE)
WORD = re.compile(r"[^\W\d]\w*")
KEYWORD = re.compile(r"\s*([^\W\d]\w*)\s*=\s*")
# More optional arguments than this would make a grammar of many alternatives.
MOST_OPTIONAL = 24


class ChatGLM3(Wire):
    """Arguments are keywords with JSON values; those whose names are no Python words come as **{...} (one call a reply)."""

    name = "chatglm3"
    between = Markup("\n")
    answer = Markup("\n ")

    def offer(self, cards: Sequence[ToolCard]) -> Text:
        """The list of tools as JSON."""
        return (
            "\n\nAnswer the following questions as best as you can. You have access to the following tools:\n",
            *self.listed(cards),
        )

    def listed(self, cards: Sequence[ToolCard]) -> Text:
        """One list of JSON."""
        return (written([function(card) for card in cards]),)

    def body(self, name: str, arguments: Mapping[str, object], card: ToolCard | None) -> Text:
        """The name, and the fenced call."""
        given = ordered(arguments, card)
        if all(_is_word(each) for each in given) and (card is None or _keywords(card) is not None):
            inside = ", ".join(f"{key}={written(value)}" for key, value in given.items())
        else:
            inside = f"**{written(given)}"
        return (Name(name), f"\n```python\n{CALL}", Parameters(inside), ")\n```")

    def rule(self, card: ToolCard, quoted: Callable[[str], str]) -> str:
        """The same as a grammar."""
        keywords = _keywords(card)
        inside = (
            f"{quoted('**')} {json_rule(arguments_schema(card))}" if keywords is None else _sequence(card, keywords, quoted)
        )
        head, tail = quoted(f"{card.name}\n```python\n{CALL}"), quoted(")\n```")
        return f"{head} {inside} {tail}"

    def parse(self, text: str) -> Reply:
        """A call, with Python's literals or JSON's; any other text is an answer."""
        head = HEAD.search(text)
        if head is None:
            if CALL in text:
                raise Malformed("Its call lacks the tool's name on a line and ```python before tool_call(.")
            return Reply(text.strip())
        inside = text[head.end() : head.end() + LIMIT]
        try:
            arguments = _as_json(inside)
        except Malformed:
            arguments = _as_python(inside)
        return Reply(text[: head.start()].strip(), (Asked(head["name"], arguments),))

    def shown(self, text: str) -> str:
        """Words have blanks in their first line, or are written in a script without them; a tool's name has neither."""
        first, _, rest = text.strip().partition("\n")
        name = re.fullmatch(r"[A-Za-z0-9_-]{0,64}", first)
        return "" if name or "`" in first or CALL in rest else super().shown(text)

    def result(self, message: Message, language: Language, left: Sequence[str] = ()) -> tuple[Role, Text]:
        """Under a role of its own."""
        return "tool", (message.content,)


def _is_word(name: str) -> bool:
    return bool(WORD.fullmatch(name)) and not keyword.iskeyword(name)


def _keywords(card: ToolCard) -> Mapping[str, Schema] | None:
    """The schemas of a tool's arguments, None if they cannot stand as keywords one by one."""
    schema = arguments_schema(card)
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") is not False or "$ref" in written(schema) or not isinstance(properties, Mapping):
        return None
    usual = all(_is_word(name) and isinstance(each, Mapping) for name, each in properties.items())
    return properties if usual and len(properties) - len(required_names(card)) <= MOST_OPTIONAL else None


def _sequence(card: ToolCard, keywords: Mapping[str, Schema], quoted: Callable[[str], str]) -> str:
    """Required keywords, then any of the optional ones, with commas between."""
    required = required_names(card)
    optional = [name for name in argument_names(card) if name not in required]

    def one(name: str, *, first: bool) -> str:
        return f"{quoted(f'{name}=' if first else f', {name}=')} {json_rule(keywords[name])}"

    def after(names: Sequence[str]) -> str:
        return " ".join(f"({one(name, first=False)})?" for name in names)

    if required:
        begin = " ".join(one(name, first=index == 0) for index, name in enumerate(required))
        return f"{begin} {after(optional)}"
    starts = [f"{one(name, first=True)} {after(optional[index + 1 :])}" for index, name in enumerate(optional)]
    return f"({' | '.join(starts)})?" if starts else ""


def _as_json(inside: str) -> JsonObject:
    """Keywords with JSON values, as they are written here. Raises Malformed."""
    arguments: dict[str, object] = {}
    at = skip_blanks(inside, 0)
    while not inside.startswith(")", at):
        if inside.startswith("**", at):
            more, at = object_at(inside, at + 2)
            arguments |= more
        elif word := KEYWORD.match(inside, at):
            arguments[word[1]], at = value_at(inside, word.end())
        else:
            raise Malformed("Its tool_call( has something that is no argument.")
        at = skip_blanks(inside, at)
        if inside.startswith(",", at):
            at = skip_blanks(inside, at + 1)
        elif not inside.startswith(")", at):
            raise Malformed("Its tool_call( does not end with ).")
    return arguments


def _as_python(inside: str) -> JsonObject:
    """Keywords with Python's literals, as the model was trained to write them. Raises Malformed."""
    source = f"f({inside[: inside.rfind(')') + 1]}"
    try:
        call = ast.parse(source, mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise Malformed("Its tool_call( may only have arguments by name.")
        arguments: dict[str, object] = {}
        for each in call.keywords:
            value = ast.literal_eval(each.value)
            arguments |= value if each.arg is None else {each.arg: value}
        return object_at(written(arguments), 0)[0]
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise Malformed(f"Its tool_call( cannot be read: {str(error)[:100]}.") from error
