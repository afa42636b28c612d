"""OpenAI's function calls as text: one JSON object with a list of tool_calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from schemas.messages import Message
from schemas.tools import ToolCard
from services.llm.calls import arguments_schema, json_rule, ordered, written
from services.llm.wire.form import Asked, Language, Malformed, Markup, Name, Parameters, Reply, Role, Text, Wire, function
from services.llm.wire.reading import asked, object_at


class OpenAI(Wire):
    """Arguments are written as an object, and read as one or as the text of one, which is how the API has them."""

    name = "openai"
    several = True
    opening = Markup('{"tool_calls": [{"type": "function", "function": {"name": "')
    between = Markup(', {"type": "function", "function": {"name": "')
    closing = Markup("]}")

    def offer(self, cards: Sequence[ToolCard]) -> Text:
        """The list of tools as the API has it."""
        return (
            f"\n\nTools:\n{''.join(self.listed(cards))}\n\nTo call tools, write one JSON object and nothing else: "
            '{"tool_calls": [{"type": "function", "function": {"name": <name>, "arguments": {...}}}]}. '
            "Otherwise answer in words.",
        )

    def listed(self, cards: Sequence[ToolCard]) -> Text:
        """One list of JSON."""
        return (written([{"type": "function", "function": function(card)} for card in cards]),)

    def body(self, name: str, arguments: Mapping[str, object], card: ToolCard | None) -> Text:
        """From the name to the end of the call's object."""
        return (Name(written(name)[1:-1]), '", "arguments": ', Parameters(written(ordered(arguments, card))), "}}")

    def rule(self, card: ToolCard, quoted: Callable[[str], str]) -> str:
        """The same as a grammar."""
        head, tail = quoted(f'{written(card.name)[1:]}, "arguments": '), quoted("}}")
        return f"{head} {json_rule(arguments_schema(card))} {tail}"

    def parse(self, text: str) -> Reply:
        """tool_calls, or function_call as the API once had it; words may stand before."""
        at = _begin(text)
        if at < 0:
            if text.lstrip().startswith("{"):
                raise Malformed('It is JSON without "tool_calls"; to answer, write words.')
            return Reply(text.strip())
        value, _ = object_at(text, at)
        return Reply(text[:at].strip(), tuple(_calls(value)))

    def result(self, message: Message, language: Language, left: Sequence[str] = ()) -> tuple[Role, Text]:
        """As the message of a function."""
        return "tool", (written({"role": "function", "name": message.name or "", "content": message.content}),)


def _begin(text: str) -> int:
    """Where the object of the calls begins, -1 if there is none."""
    found = [at for at in (text.find('{"tool_calls"'), text.find('{"function_call"')) if at >= 0]
    return min(found, default=-1)


def _calls(value: Mapping[str, object]) -> list[Asked]:
    calls = value.get("tool_calls")
    if isinstance(calls, Sequence) and not isinstance(calls, str):
        wanted = [each.get("function", each) if isinstance(each, Mapping) else each for each in calls]
    else:
        wanted = [value.get("function_call")]
    if not wanted:
        raise Malformed('Its "tool_calls" is an empty list; to answer, write words.')
    return [asked(each) for each in wanted]
