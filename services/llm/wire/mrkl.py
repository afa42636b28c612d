"""MRKL, also known as ReAct: Thought, Action, Action Input, Observation, and in the end a Final Answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from schemas.messages import Message
from schemas.tools import ToolCard
from services.llm.calls import arguments_schema, json_rule, ordered, written
from services.llm.wire.form import Language, Malformed, Markup, Name, Parameters, Reply, Role, Text, Wire
from services.llm.wire.reading import asked, object_at

FINAL = "Final Answer:"
ACTION = re.compile(r"^[ \t]*Action:[ \t]*(?P<name>[^\n]*?)[ \t]*\n\s*Action Input:", re.MULTILINE)
FIELDS = re.compile(r"^[ \t]*(Thought|Action|Action Input|Observation):", re.MULTILINE)


class Mrkl(Wire):
    """One call at a time, whose observation stands in the same turn."""

    name = "mrkl"
    opening = Markup("Action: ")
    between = Markup("\nAction: ")
    answer = Markup(f"{FINAL} ")
    inline = True
    stops = ("\nObservation:",)

    def offer(self, cards: Sequence[ToolCard]) -> Text:
        """A line for each tool, and the fields of a reply."""
        tools = "".join(self.listed(cards))
        names = f", one of {', '.join(card.name for card in cards)}" if cards else ""
        return (
            f"\n\nYou have these tools:\n\n{tools}\n\nWrite in this form:\n\nThought: what is to be done\n"
            f"Action: a tool{names}\nAction Input: its arguments as JSON\nObservation: the tool's result\n"
            f"(these four may repeat)\n{FINAL} the answer in words",
        )

    def listed(self, cards: Sequence[ToolCard]) -> Text:
        """A line for each."""
        lines = (f"{card.name}: {' '.join(card.description.split())} Input: {written(card.parameters)}" for card in cards)
        return ("\n".join(lines),)

    def body(self, name: str, arguments: Mapping[str, object], card: ToolCard | None) -> Text:
        """The name and the input."""
        return (Name(name), "\nAction Input: ", Parameters(written(ordered(arguments, card))))

    def rule(self, card: ToolCard, quoted: Callable[[str], str]) -> str:
        """The same as a grammar."""
        head = quoted(f"{card.name}\nAction Input: ")
        return f"{head} {json_rule(arguments_schema(card))}"

    def parse(self, text: str) -> Reply:
        """The first action, or the final answer if that comes first; a text without any field is an answer."""
        action, final = ACTION.search(text), text.find(FINAL)
        if final >= 0 and (action is None or final < action.start()):
            return Reply(text[final + len(FINAL) :].strip())
        if action is None:
            if FIELDS.search(text):
                raise Malformed(f"It has neither an Action with an Action Input nor a {FINAL}")
            return Reply(text.strip())
        value, _ = object_at(text, action.end())
        return Reply("", (asked({"name": action["name"].strip("`\"' "), "arguments": value}),))

    def shown(self, text: str) -> str:
        """What follows the final answer's name, unless an action came first."""
        final = text.find(FINAL)
        return text[final + len(FINAL) :].strip() if final >= 0 and "Action" not in text[:final] else ""

    def result(self, message: Message, language: Language, left: Sequence[str] = ()) -> tuple[Role, Text]:
        """In the turn that asked for it."""
        return "assistant", (f"\nObservation: {message.content}\n",)
