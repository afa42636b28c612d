"""ModelScope-Agent's form: calls between <|startofthink|> and <|endofthink|>, results <|startofexec|> and <|endofexec|>."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from schemas.messages import Message
from schemas.tools import ToolCard
from services.llm.calls import arguments_schema, json_rule, ordered, written
from services.llm.wire.form import Asked, Language, Malformed, Markup, Name, Parameters, Reply, Role, Text, Url, Wire, function
from services.llm.wire.reading import asked, object_at

OPEN, CLOSE = "<|startofthink|>", "<|endofthink|>"
RESULT_OPEN, RESULT_CLOSE = "<|startofexec|>", "<|endofexec|>"


class MSAgent(Wire):
    """One call at a time; its result stands in the same turn, which then goes on (arXiv 2309.00986, MSAgent-Bench)."""

    name = "msagent"
    opening = Markup(f'{OPEN}```JSON\n{{"api_name": "')
    between = Markup(f"\n{opening}")
    stops = (CLOSE,)
    inline = True

    def offer(self, cards: Sequence[ToolCard]) -> Text:
        """A numbered list of JSON schemas."""
        return (
            "\n\nTo use a tool, write its JSON with api_name and parameters between ", Markup(OPEN), " and ", Markup(CLOSE),
            ":\n", Markup(f'{OPEN}```JSON\n{{"api_name": <name>, "parameters": {{...}}}}\n```{CLOSE}'),
            "\nIts result follows between ", Markup(RESULT_OPEN), " and ", Markup(RESULT_CLOSE),
            "; answer from it in words. Without need of a tool, answer in words at once.\n\nTools:\n\n", *self.listed(cards),
        )  # fmt: skip

    def listed(self, cards: Sequence[ToolCard]) -> Text:
        """Numbered."""
        return ("\n\n".join(f"{number}. {written(function(card))}" for number, card in enumerate(cards, 1)),)

    def body(self, name: str, arguments: Mapping[str, object], card: ToolCard | None) -> Text:
        """From the name to the closing tag."""
        return self.call(Asked(name, dict(arguments)), card)

    def call(self, call: Asked, card: ToolCard | None) -> Text:
        """The same, with the URL that MSAgent-Bench has between the name and the arguments."""
        url = ('", "url": "', Url(written(call.url)[1:-1])) if call.url else ()
        given = Parameters(written(ordered(call.arguments, card)))
        return (Name(written(call.name)[1:-1]), *url, '", "parameters": ', given, "}\n```", Markup(CLOSE))

    def rule(self, card: ToolCard, quoted: Callable[[str], str]) -> str:
        """The same as a grammar."""
        head, tail = quoted(f'{written(card.name)[1:]}, "parameters": '), quoted(Markup(f"}}\n```{CLOSE}"))
        return f"{head} {json_rule(arguments_schema(card))} {tail}"

    def parse(self, text: str) -> Reply:
        """The first call; what a model makes up after it is not read. A url beside the name means nothing here."""
        words, found, rest = text.partition(OPEN)
        if not found:
            if words.lstrip().startswith(("```JSON", "```json", "{", "<|start")):
                raise Malformed(f"It begins as a call but is none; a call stands between {OPEN} and {CLOSE}.")
            return Reply(words.strip())
        begin = rest.find("{")
        if begin < 0 or rest[:begin].strip() not in ("", "```", "```JSON", "```json"):
            raise Malformed(f"After {OPEN} must follow ```JSON and an object with api_name and parameters.")
        value, _ = object_at(rest, begin)
        name = "api_name" if "api_name" in value else "name"
        return Reply(words.strip(), (asked(value, name=name, arguments="parameters"),))

    def result(self, message: Message, language: Language, left: Sequence[str] = ()) -> tuple[Role, Text]:
        """In the turn that asked for it."""
        return "assistant", ("\n\n", Markup(RESULT_OPEN), message.content, Markup(RESULT_CLOSE), "\n")
