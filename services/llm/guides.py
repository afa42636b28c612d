"""What follows a prompt: first the choice between a call and an answer, then the one or the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from services.llm.engine import END, Next
from services.llm.grammar import CallGrammar
from services.llm.sampling import Allowed, Sampler, log_softmax
from services.llm.scores import Scores
from services.llm.tokenizer import TextStream, Vocabulary

Finish: TypeAlias = Literal["stop", "length", "calls"]

MARKUP = (b"<", b"{", b"[", b"`")
OPENING = '{"name": "'
# With less than this chance for all offered names together, the model wants a tool that is not there.
WANTED = 0.3


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

    def call_odds(self, scores: Scores) -> float:
        """Log-odds that the model begins markup, which is how it begins a call, rather than words."""
        chances = np.exp(log_softmax(scores.all()))
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

    def follow(self, scores: Scores) -> Next:
        """The next token of the text."""
        first = self._plain and not self.said
        token = self._sampler.choose(scores, self._alphabet.first_words if first else self._alphabet.words)
        if token in self._alphabet.ends:
            return self._end("stop")
        self.said.append(token)
        self._tell(self._stream.push(token))
        return self._end("length") if len(self.said) >= self._max_tokens else Next([token])

    def _end(self, finish: Finish) -> Next:
        self.finish = finish
        self._tell(self._stream.end())
        return END

    def _tell(self, piece: str) -> None:
        if piece:
            self.text += piece
            self._on_text(piece)


class Call:
    """One call of an offered tool, as its grammar has it; a call that does not fit into max_tokens is none."""

    def __init__(self, alphabet: Alphabet, sampler: Sampler, grammar: CallGrammar, *, max_tokens: int) -> None:
        self._vocabulary, self._sampler, self._grammar = alphabet.vocabulary, sampler, grammar
        self._max_tokens = max_tokens
        self.said: list[int] = []
        self.finish: Finish = "length"

    @property
    def line(self) -> str:
        """What has been written so far."""
        return self._vocabulary.decode(self.said)

    def open(self) -> Next:
        """What every call begins with, up to the name."""
        return self._say(self._vocabulary.encode(OPENING))

    def wanted(self, scores: Scores) -> float:
        """The chance that the model itself, after the opening, would have named an offered tool."""
        return float(np.exp(log_softmax(scores.all()))[self._grammar.allowed()].sum())

    def follow(self, scores: Scores) -> Next:
        """The next token of the call and all those that are forced by it."""
        return self._say([self._sampler.choose(scores, self._grammar.allowed())])

    def _say(self, tokens: list[int]) -> Next:
        self._grammar.accept(tokens)
        following = tokens if self._grammar.complete else [*tokens, *self._grammar.forced()]
        self.said += following
        if self._grammar.complete:
            self.finish = "calls"
            return END
        return END if len(self.said) >= self._max_tokens else Next(following)


class Turn:
    """A model's turn: its first logits say whether it calls (only where a call is offered) or answers.

    A call whose name the model would not have chosen from what is offered is taken back: it wanted another tool, and
    the nearest one offered (restart for renew) would be the wrong thing done.
    """

    def __init__(self, alphabet: Alphabet, answer: Answer, call: Call | None, margin: float) -> None:
        self._alphabet, self._answer, self._call, self._margin = alphabet, answer, call, margin
        self._first: Scores | None = None
        self.chosen: Answer | Call = answer
        self.odds: float | None = None
        self.wanted: float | None = None

    def follow(self, scores: Scores) -> Next:
        """Choose at the first logits, think again at the name, then go on with what was chosen."""
        if self._first is None:
            return self._choose(scores)
        if isinstance(self.chosen, Call) and self.wanted is None:
            self.wanted = self.chosen.wanted(scores)
            if self.wanted < WANTED:
                return self._take_back(self.chosen, self._first)
        return self.chosen.follow(scores)

    def _choose(self, scores: Scores) -> Next:
        self._first = scores
        if self._call is not None:
            self.odds = self._alphabet.call_odds(scores)
            if self.odds > self._margin:
                self.chosen = self._call
                return self._call.open()
        return self._answer.follow(scores)

    def _take_back(self, call: Call, first: Scores) -> Next:
        self.chosen = self._answer
        return Next(self._answer.follow(first).tokens, drop=len(call.said))
