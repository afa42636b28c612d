"""What a model may write: calls of the offered tools, or an answer of a wanted form, as masks of tokens (llguidance)."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from runtime.errors import Permanent
from schemas.canonical import digest
from schemas.messages import ChoiceOutput, JsonOutput, Output, RegexOutput
from schemas.tools import ToolCard
from services.llm.calls import json_rule, tightened, written
from services.llm.chat import parts
from services.llm.sampling import Allowed
from services.llm.tokenizer import Vocabulary
from services.llm.wire.form import Markup, Wire

KEPT = 128
# Characters of a grammar: compiling this many takes a second or two.
LARGEST = 1_000_000
MOST_CALLS = 8
# Room for a thousand optional arguments; all other limits are llguidance's own, and they end what would take long.
LIMITS = LLParserLimits(max_items_in_row=20_000)

Refuse = Callable[[str], Permanent]


class SchemaRefused(Permanent):
    """A tool's parameters cannot be turned into a grammar, so no call of it could be checked as it is written."""

    def __init__(self, tool: str, why: str) -> None:
        super().__init__(
            f"The parameters of the tool {tool} cannot constrain a model.",
            why=why,
            hint=f"simplify the JSON Schema of {tool} (plain types, enum, required), or forbid the tool to the agent",
        )
        self.tool = tool


class OutputRefused(Permanent):
    """The wanted form of an answer cannot be turned into a grammar."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(
            f"The wanted output ({kind}) cannot constrain a model.",
            why=why,
            hint="simplify the agent's manner.output (plain types, enum, no look-around), or set constrained to false",
        )


class Grammars:
    """Compiled grammars, the ones used last; safe for several threads.

    ends: the tokens that end a message. rows: how many logits the model computes, some of which may belong to no token.
    """

    def __init__(self, vocabulary: Vocabulary, ends: Sequence[int], *, rows: int = 0) -> None:
        self._vocabulary = vocabulary
        self._size = max(rows, len(vocabulary))
        self._tokenizer = LLTokenizer(vocabulary.json, n_vocab=self._size, eos_token=list(ends))
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._guard = Lock()

    def of_calls(self, cards: Sequence[ToolCard], wire: Wire, *, several: bool = False) -> Grammar:
        """The grammar of one call of these tools, or of several. Raises SchemaRefused, which names the tool."""
        names = ", ".join(card.name for card in cards)

        def compiled() -> LLMatcher:
            return self._of_calls(cards, wire, several)

        key = digest("calls", wire.name, str(several), *(card.hash() for card in cards))
        return Grammar(self._kept(key, compiled), self._size, lambda why: SchemaRefused(names, why))

    def of_answer(self, output: Output) -> Grammar:
        """The grammar of an answer. Raises OutputRefused."""

        def compiled() -> LLMatcher:
            matcher = self._matcher(_answer(output))
            if why := _fault(matcher):
                raise OutputRefused(output.kind, why)
            return matcher

        key = digest("output", output.model_dump_json())
        return Grammar(self._kept(key, compiled), self._size, lambda why: OutputRefused(output.kind, why))

    def _kept(self, key: str, compiled: Callable[[], LLMatcher]) -> LLMatcher:
        with self._guard:
            found = self._compiled.get(key)
        if found is None:
            found = compiled()
        with self._guard:
            self._compiled[key] = found
            self._compiled.move_to_end(key)
            while len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
            return found.deep_copy()

    def _of_calls(self, cards: Sequence[ToolCard], wire: Wire, several: bool) -> LLMatcher:
        """All tools' grammar in one; when it fails, each tool's own says which one is at fault."""
        grammar = self._calls(cards, wire, several)
        if len(grammar) > LARGEST:
            largest = max(cards, key=lambda card: len(written(card.parameters)))
            raise SchemaRefused(largest.name, f"the schemas of all tools have {len(grammar):,} characters, at most {LARGEST:,}")
        matcher = self._matcher(LLMatcher.grammar_from_lark(grammar))
        why = _fault(matcher)
        if not why:
            return matcher
        for card in cards:
            alone = self._matcher(LLMatcher.grammar_from_lark(self._calls([card], wire, several)))
            if fault := _fault(alone):
                raise SchemaRefused(card.name, fault)
        raise SchemaRefused(", ".join(card.name for card in cards), why)

    def _calls(self, cards: Sequence[ToolCard], wire: Wire, several: bool) -> str:
        """A Lark grammar: one alternative for each tool."""
        more = f"({self._quoted(wire.between)} call){{0,{MOST_CALLS - 1}}}" if several else ""
        lines = [f"start: {self._quoted(wire.opening)} call {more} {self._quoted(wire.closing)}"]
        lines.append(f"call: {' | '.join(f'call_{index}' for index in range(len(cards)))}")
        for index, card in enumerate(cards):
            try:
                lines.append(f"call_{index}: {wire.rule(card, self._quoted)}")
            except (RecursionError, ValueError, TypeError) as error:
                raise SchemaRefused(card.name, f"it is no JSON Schema: {error}"[:300]) from error
        return "\n".join(lines)

    def _quoted(self, text: str) -> str:
        """A literal of Lark: text as a string, special tokens of Markup by number."""
        pieces = parts(text, self._vocabulary) if isinstance(text, Markup) else (text,)
        return " ".join(f"<[{each}]>" if isinstance(each, int) else written(each) for each in pieces if each != "")

    def _matcher(self, grammar: str) -> LLMatcher:
        return LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)


class Grammar:
    """A text in the making: which tokens may come, which must, and whether it may end."""

    def __init__(self, matcher: LLMatcher, size: int, refuse: Refuse) -> None:
        self._matcher, self._size, self._refuse = matcher, size, refuse
        self._bits = allocate_token_bitmask(1, size)

    def forced(self) -> list[int]:
        """The tokens that must come next, taken as read."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        self.accept(tokens)
        return tokens

    def takes(self, token: int) -> bool:
        """Whether one token may come next: a thousandth of the cost of `allowed`."""
        return bool(self._matcher.validate_tokens([token]))

    def allowed(self) -> Allowed:
        """The tokens that may come next; where the text is complete, those that end a message are among them."""
        fill_next_token_bitmask(self._matcher, self._bits)
        if why := _fault(self._matcher):
            raise self._refuse(why)
        return np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")[: self._size].astype(np.bool_)

    def accept(self, tokens: Sequence[int]) -> None:
        """Take allowed tokens as read. Raises the refusal of this grammar if it has grown too large, or does not allow them."""
        if not self._matcher.consume_tokens(list(tokens)):
            raise self._refuse(_fault(self._matcher) or f"it does not allow the tokens {tokens}")

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def finished(self) -> bool:
        """Whether nothing can follow any more."""
        return bool(self._matcher.is_stopped())


def _answer(output: Output) -> str:
    match output:
        case JsonOutput(json_schema=schema):
            return str(LLMatcher.grammar_from_lark(f"start: {json_rule(tightened(schema))}"))
        case RegexOutput(pattern=pattern):
            return str(LLMatcher.grammar_from_regex(pattern))
        case ChoiceOutput(options=options):
            return str(LLMatcher.grammar_from_regex("|".join(re.escape(option) for option in options)))


def _fault(matcher: LLMatcher) -> str:
    """Why a matcher is of no use; "" if it works."""
    lines: list[str] = matcher.get_error().splitlines() if matcher.is_error() else []
    return lines[0][:300] if lines else ""
