"""Calls in XML tags: the form that Hermes, Qwen2.5 and Qwen3 were trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from schemas.messages import Message
from schemas.tools import ToolCard
from services.llm.calls import arguments_schema, json_rule, ordered, written
from services.llm.wire.form import Asked, Language, Malformed, Markup, Name, Parameters, Reply, Role, Text, Wire, function
from services.llm.wire.reading import asked, object_at

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class Hermes(Wire):
    """JSON between <tool_call> and </tool_call>; the words are those of Qwen's own chat template, which it was trained on."""

    name = "hermes"
    several = True
    opening = Markup(f'{OPEN}\n{{"name": "')
    between = Markup(f'\n{OPEN}\n{{"name": "')

    def offer(self, cards: Sequence[ToolCard]) -> Text:
        """A JSON object for each tool between <tools> and </tools>."""
        return (
            "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
            "You are provided with function signatures within <tools></tools> XML tags:\n",
            *self.listed(cards),
            "\n\nFor each function call, return a json object with function name and arguments within ",
            Markup(f"{OPEN}{CLOSE}"), " XML tags:\n", Markup(OPEN),
            '\n{"name": <function-name>, "arguments": <args-json-object>}\n', Markup(CLOSE),
        )  # fmt: skip

    def listed(self, cards: Sequence[ToolCard]) -> Text:
        """The block in its tags."""
        tools = "\n".join(written({"type": "function", "function": function(card)}) for card in cards)
        return (Markup("<tools>"), f"\n{tools}\n", Markup("</tools>"))

    def body(self, name: str, arguments: Mapping[str, object], card: ToolCard | None) -> Text:
        """From the name to the closing tag."""
        given = Parameters(written(ordered(arguments, card)))
        return (Name(written(name)[1:-1]), '", "arguments": ', given, "}\n", Markup(CLOSE))

    def rule(self, card: ToolCard, quoted: Callable[[str], str]) -> str:
        """The same as a grammar."""
        head, tail = quoted(f'{written(card.name)[1:]}, "arguments": '), quoted(Markup(f"}}\n{CLOSE}"))
        return f"{head} {json_rule(arguments_schema(card))} {tail}"

    def parse(self, text: str) -> Reply:
        """Words, then what stands between tags; a closing tag may lack, as where generation ends with it."""
        words, found, _ = text.partition(OPEN)
        if not found:
            if words.lstrip().startswith(("<tool", "{")):
                raise Malformed(
                    f'It begins as a call but is none; a call is {OPEN}{{"name": ..., "arguments": {{...}}}}{CLOSE}.'
                )
            return Reply(words.strip())
        calls: list[Asked] = []
        at = len(words)
        while at >= 0:
            value, end = object_at(text, at + len(OPEN))
            calls.append(asked(value))
            at = text.find(OPEN, end)
        return Reply(words.strip(), tuple(calls))

    def result(self, message: Message, language: Language, left: Sequence[str] = ()) -> tuple[Role, Text]:
        """Between tags of its own, in the user's name."""
        return "user", (Markup("<tool_response>"), f"\n{message.content}\n", Markup("</tool_response>"))
