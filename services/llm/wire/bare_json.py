"""A call is one bare line of JSON, {"name": ..., "arguments": {...}}; tools are shown as one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from schemas.messages import Message
from schemas.tools import ToolCard
from services.llm.calls import argument_names, arguments_schema, json_rule, ordered, required_names, written
from services.llm.wire.form import Asked, Language, Malformed, Markup, Name, Parameters, Reply, Role, Text, Wire
from services.llm.wire.reading import asked, object_at, skip_blanks

# Measured on Qwen2.5-Coder-0.5B: a line for `reply` and an explicit way to call separate calls from answers (AUC 0.92 over
# BFCL simple, multiple and irrelevance) better than Qwen's own <tools> block (0.85), in half the tokens; untuned, it never
# writes <tool_call> (log-probability -23), so a call is one bare line of JSON.
OFFER = (
    "\n\nFunctions:\n{functions}"
    "reply(text: string): Answer in words. For greetings, general knowledge, and all that no other function does.\n\n"
    'To call a function, write a JSON object on one line: {{"name": <function name>, "arguments": {{...}}}}'
)
# Without a question it echoes the result as markup; "answer my request" makes it refuse; this one it answers in words.
RESULT = "<tool_response>\n{result}\n</tool_response>\n{question}"
QUESTIONS: Mapping[Language, str] = {"en": "What does this mean for me?", "zh": "这个结果说明了什么？请用中文回答。"}
# Asked like this it makes exactly the call that is missing; with the question above it repeats the first.
GO_ON: Mapping[Language, str] = {"en": "Go on with {left}.", "zh": "请继续处理 {left}。"}
FENCES = ("```json", "```JSON", "```")


class BareJson(Wire):
    """The form of models that were not trained to call tools."""

    name = "json"
    further = "Further functions for this request:"
    several = True
    opening = Markup('{"name": "')
    between = Markup('\n{"name": "')

    def offer(self, cards: Sequence[ToolCard]) -> Text:
        """A line for each tool."""
        return (OFFER.format(functions="".join(f"{function_line(card)}\n" for card in cards)),)

    def listed(self, cards: Sequence[ToolCard]) -> Text:
        """A line for each."""
        return ("\n".join(function_line(card) for card in cards),)

    def body(self, name: str, arguments: Mapping[str, object], card: ToolCard | None) -> Text:
        """The rest of the line."""
        return (Name(written(name)[1:-1]), '", "arguments": ', Parameters(written(ordered(arguments, card))), "}")

    def rule(self, card: ToolCard, quoted: Callable[[str], str]) -> str:
        """The same as a grammar."""
        head, tail = quoted(f'{written(card.name)[1:]}, "arguments": '), quoted("}")
        return f"{head} {json_rule(arguments_schema(card))} {tail}"

    def parse(self, text: str) -> Reply:
        """Calls are lines that begin with {"name"; a reply that begins as markup and has none is malformed."""
        bare = _unfenced(text.strip())
        lines = bare.find('\n{"name"') + 1
        at = 0 if bare.startswith(("{", "[", "<tool")) else lines
        if at == 0 and not bare.startswith(("{", "[", "<tool")):
            return Reply(bare)
        calls: list[Asked] = []
        end = at
        while end < len(bare) and bare[end] == "{":
            value, end = object_at(bare, end)
            calls.append(asked(value))
            end = skip_blanks(bare, end)
        if not calls:
            raise Malformed('It begins as a call but is none; a call is one line, {"name": <function>, "arguments": {...}}.')
        return Reply(bare[:at].strip(), tuple(calls))

    def result(self, message: Message, language: Language, left: Sequence[str] = ()) -> tuple[Role, Text]:
        """With a question in the person's language, which it answers in words."""
        question = GO_ON[language].format(left=", ".join(left)) if left else QUESTIONS[language]
        return "user", (RESULT.format(result=message.content, question=question),)


def function_line(card: ToolCard) -> str:
    """A tool as one line, `name(required: type, optional?: type): description`: short, for prefill is what people wait for."""
    properties = card.parameters.get("properties", {})
    required = required_names(card)
    arguments = [
        f"{name}{'' if name in required else '?'}: {_type(_schema(properties, name))}" for name in argument_names(card)
    ]
    return f"{card.name}({', '.join(arguments)}): {' '.join(card.description.split())}"


def _unfenced(text: str) -> str:
    """Without the fence that some models put around JSON."""
    for fence in FENCES:
        inner = text.removeprefix(fence).lstrip()
        if inner != text and inner.startswith(("{", "[")):
            return inner.removesuffix("```").rstrip()
    return text


def _type(schema: Mapping[str, object]) -> str:
    """A schema in a word or two: `string`, `integer[]`, `"Week" | "Month"`."""
    options = schema.get("enum")
    if isinstance(options, list | tuple):
        return " | ".join(written(option) for option in options)
    kind = schema.get("type", "any")
    if kind == "array":
        return f"{_type(_schema(schema, 'items'))}[]"
    return " | ".join(str(each) for each in kind) if isinstance(kind, list | tuple) else str(kind)


def _schema(container: object, key: str) -> Mapping[str, object]:
    value = container.get(key) if isinstance(container, Mapping) else None
    return value if isinstance(value, Mapping) else {}
