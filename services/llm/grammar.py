"""What a model may write: calls of the offered tools, by their JSON Schemas, as masks over the vocabulary (llguidance)."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from runtime.errors import Permanent
from schemas.canonical import digest
from schemas.tools import ToolCard
from services.llm.calls import call_schema
from services.llm.sampling import Allowed
from services.llm.tokenizer import Vocabulary

KEPT = 128
# Fixed spaces: then a third of a call's tokens are forced and cost no decoding.
SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class SchemaRefused(Permanent):
    """A tool's parameters cannot be turned into a grammar, so no call of it could be checked as it is written."""

    def __init__(self, tool: str, why: str) -> None:
        super().__init__(
            f"The parameters of the tool {tool} cannot constrain a model.",
            why=why,
            hint=f"simplify the JSON Schema of {tool} (plain types, enum, required), or forbid the tool to the agent",
        )
        self.tool = tool


class Grammars:
    """Compiled grammars, one for each set of tools; the ones used last are kept."""

    def __init__(self, vocabulary: Vocabulary, end: int) -> None:
        self._size = len(vocabulary)
        self._tokenizer = LLTokenizer(vocabulary.json, n_vocab=self._size, eos_token=end)
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def call_of(self, cards: Sequence[ToolCard]) -> CallGrammar:
        """The grammar of one call of these tools, at its beginning. Raises SchemaRefused, which names the tool."""
        key = digest(*(card.hash() for card in cards))
        if key not in self._compiled:
            self._compiled[key] = self._compile(cards)
        self._compiled.move_to_end(key)
        while len(self._compiled) > KEPT:
            self._compiled.popitem(last=False)
        return CallGrammar(self._compiled[key].deep_copy(), self._size)

    def _compile(self, cards: Sequence[ToolCard]) -> LLMatcher:
        matcher = self._matcher(cards)
        if not matcher.is_error():
            return matcher
        for card in cards:
            alone = self._matcher([card])
            if alone.is_error():
                raise SchemaRefused(card.name, alone.get_error().splitlines()[0][:300])
        raise SchemaRefused(", ".join(card.name for card in cards), matcher.get_error().splitlines()[0][:300])

    def _matcher(self, cards: Sequence[ToolCard]) -> LLMatcher:
        schema = json.dumps({**call_schema(cards), "x-guidance": SPACING})
        return LLMatcher(self._tokenizer, LLMatcher.grammar_from_json_schema(schema), log_level=0)


class CallGrammar:
    """A call in the making: which tokens may come, which must, and whether it is complete."""

    def __init__(self, matcher: LLMatcher, size: int) -> None:
        self._matcher = matcher
        self._size = size
        self._bits = allocate_token_bitmask(1, size)

    def forced(self) -> list[int]:
        """The tokens that must come next, taken as read."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        self.accept(tokens)
        return tokens

    def allowed(self) -> Allowed:
        """The tokens that may come next."""
        fill_next_token_bitmask(self._matcher, self._bits)
        return np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")[: self._size].astype(np.bool_)

    def accept(self, tokens: list[int]) -> None:
        """Take allowed tokens as read; ValueError for others."""
        if not self._matcher.consume_tokens(tokens):
            raise ValueError(f"the grammar does not allow tokens {tokens}: {self._matcher.get_error()[:300]}")

    @property
    def complete(self) -> bool:
        """Whether the call is whole: a JSON object ends with its brace."""
        return bool(self._matcher.is_accepting())
