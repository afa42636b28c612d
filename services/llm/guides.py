"""What follows a prompt: first the choice between a call and an answer, then the one or the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from services.llm.decoder import Logits
from services.llm.grammar import CallGrammar
from services.llm.sampling import Allowed, Sampler, log_softmax
from services.llm.tokenizer import TextStream, Vocabulary

Finish: TypeAlias = Literal["stop", "length", "calls"]

MARKUP = (b"<", b"{", b"[", b"`")


class Alphabet:
    """Which tokens of a vocabulary are words, which begin markup, and which end a message."""

    def __init__(self, vocabulary: Vocabulary, ends: Sequence[int]) -> None:
        size = len(vocabulary)
        self.vocabulary = vocabulary
        self.ends = frozenset(ends)
        special = np.array([vocabulary.is_special(index) for index in range(size)])
        stripped = [vocabulary.bytes_of(index).strip() for index in range(size)]
        blank = np.array([not text for text in stripped])
        self.markup: Allowed = np.array([text.startswith(MARKUP) for text in stripped])
        self.words: Allowed = ~special
        self.words[list(ends)] = True
        self.first_words: Allowed = ~(special | blank | self.markup)

    def call_odds(self, logits: Logits) -> float:
        """Log-odds that the model begins markup, which is how it begins a call, rather than words."""
        chances = np.exp(log_softmax(logits))
        call, words = chances[self.markup].sum(), chances[self.first_words].sum()
        return float(np.log(max(call, 1e-30)) - np.log(max(words, 1e-30)))


class Answer:
    """Free text to the end of the message. plain: it may not begin as markup, nor be empty."""

    def __init__(
        self, alphabet: Alphabet, sampler: Sampler, *, plain: bool, max_tokens: int, on_text: Callable[[str], None]
    ) -> None:
        self._alphabet, self._sampler = alphabet, sampler
        self._plain, self._max_tokens, self._on_text = plain, max_tokens, on_text
        self._stream = TextStream(alphabet.vocabulary)
        self.said: list[int] = []
        self.text = ""
        self.finish: Finish = "stop"

    def follow(self, logits: Logits) -> Sequence[int]:
        """The next token of the text."""
        first = self._plain and not self.said
        token = self._sampler.choose(logits, self._alphabet.first_words if first else self._alphabet.words)
        if token in self._alphabet.ends:
            return self._end("stop")
        self.said.append(token)
        self._tell(self._stream.push(token))
        return self._end("length") if len(self.said) >= self._max_tokens else [token]

    def _end(self, finish: Finish) -> Sequence[int]:
        self.finish = finish
        self._tell(self._stream.end())
        return []

    def _tell(self, piece: str) -> None:
        if piece:
            self.text += piece
            self._on_text(piece)


class Call:
    """One call of an offered tool, as its grammar has it; a call that does not fit into max_tokens is none."""

    def __init__(self, alphabet: Alphabet, sampler: Sampler, grammar: CallGrammar, *, max_tokens: int) -> None:
        self._alphabet, self._sampler, self._grammar = alphabet, sampler, grammar
        self._max_tokens = max_tokens
        self.said: list[int] = []
        self.finish: Finish = "length"

    @property
    def line(self) -> str:
        """What has been written so far."""
        return self._alphabet.vocabulary.decode(self.said)

    def follow(self, logits: Logits) -> Sequence[int]:
        """The next token of the call and all those that are forced by it."""
        new: list[int] = []
        # The first tokens of a call are the same for every tool: they need no logits.
        if self.said:
            token = self._sampler.choose(logits, self._grammar.allowed())
            self._grammar.accept(token)
            new = [token]
        if not self._grammar.complete:
            new += self._grammar.forced()
        self.said += new
        if self._grammar.complete:
            self.finish = "calls"
            return []
        return [] if len(self.said) >= self._max_tokens else new


class Turn:
    """A model's turn: its first logits say whether it calls (only where a call is offered) or answers."""

    def __init__(self, alphabet: Alphabet, answer: Answer, call: Call | None, margin: float) -> None:
        self._alphabet, self._answer, self._call, self._margin = alphabet, answer, call, margin
        self.chosen: Answer | Call | None = None
        self.odds: float | None = None

    def follow(self, logits: Logits) -> Sequence[int]:
        """Choose at the first logits, then go on with what was chosen."""
        if self.chosen is None:
            self.chosen = self._choose(logits)
        return self.chosen.follow(logits)

    def _choose(self, logits: Logits) -> Answer | Call:
        if self._call is None:
            return self._answer
        self.odds = self._alphabet.call_odds(logits)
        return self._call if self.odds > self._margin else self._answer
