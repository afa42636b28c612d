"""What follows a prompt: first the choice between a call and an answer, then the one or the other."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from services.llm.choice import Choice
from services.llm.grammar import Grammar
from services.llm.sampling import Allowed, Sampler, log_softmax
from services.llm.scores import HostScores, Scores
from services.llm.stream import END, Next
from services.llm.tokenizer import TextStream, Vocabulary

Finish: TypeAlias = Literal["stop", "length"]
Hear: TypeAlias = Callable[[str], None]

MARKUP = (b"<", b"{", b"[", b"`")
# A call whose last LOOP tokens are a few of them (PERIOD at most) over and over has run away: greedy models never come back.
LOOP, PERIOD = 128, 16


# A tool's name, up to the first character that is none of it.
NAME = re.compile(r"\W*[\w-]+(?=[^\w-])", re.ASCII)


class Alphabet:
    """Which tokens of a vocabulary are words, which begin markup, and which end a message.

    rows: how many logits the model computes, some of which may belong to no token.
    """

    def __init__(self, vocabulary: Vocabulary, ends: Sequence[int], *, rows: int = 0) -> None:
        size = max(rows, len(vocabulary))
        self.vocabulary = vocabulary
        self.ends = frozenset(ends)
        special = np.array([vocabulary.is_special(index) for index in range(size)])
        self._bytes = [vocabulary.bytes_of(index) for index in range(size)]
        stripped = [text.strip() for text in self._bytes]
        blank = np.array([not text for text in stripped])
        self.markup: Allowed = np.array([text.startswith(MARKUP) for text in stripped])
        self.words: Allowed = ~special & np.array([bool(text) for text in self._bytes])
        self.words[list(ends)] = True
        self.first_words: Allowed = ~(special | blank | self.markup)
        self._beginnings: dict[str, Allowed] = {}

    def beginning(self, text: str) -> Allowed:
        """The tokens that a text may begin with."""
        if text not in self._beginnings:
            wanted = text.encode()
            self._beginnings[text] = np.array([bool(t) and (wanted.startswith(t) or t.startswith(wanted)) for t in self._bytes])
        return self._beginnings[text]

    def wording(self, special: Iterable[int]) -> Allowed:
        """The tokens of words, and some special ones besides."""
        allowed = self.words.copy()
        allowed[list(special)] = True
        return allowed

    def text_of(self, tokens: Iterable[int]) -> str:
        """The text of tokens, in which special ones stand by their names."""
        return b"".join(self._bytes[token] for token in tokens).decode(errors="replace")


class Answer:
    """Free text to the end of the message.

    opening: what it is made to begin with, and is not part of it. first: the tokens of which its first must be one.
    words: those that may follow. stops: texts that end it, too.
    """

    def __init__(
        self, alphabet: Alphabet, sampler: Sampler, *, max_tokens: int, on_text: Hear, opening: Sequence[int] = (),
        first: Allowed | None = None, words: Allowed | None = None, stops: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._alphabet, self._sampler, self._max_tokens, self._on_text = alphabet, sampler, max_tokens, on_text
        self._opening, self._stops = list(opening), stops
        self._words = alphabet.words if words is None else words
        self._first = self._words if first is None else first
        self._stream = TextStream(alphabet.vocabulary)
        self.said: list[int] = []
        self.text = ""
        self.finish: Finish = "stop"

    def follow(self, scores: Scores) -> Next:
        """The next token of the text; the opening before its first."""
        if self._opening and not self.said:
            self.said += self._opening
            return Next(self._opening)
        begun = len(self.said) > len(self._opening)
        token = self._sampler.choose(scores, self._words if begun else self._first)
        if token in self._alphabet.ends:
            return self._end("stop")
        self.said.append(token)
        special = self._alphabet.vocabulary.is_special(token)
        self._tell(self._alphabet.text_of([token]) if special else self._stream.push(token))
        if any(self.text.rfind(stop, max(0, len(self.text) - 64)) >= 0 for stop in self._stops):
            return self._end("stop")
        return self._end("length") if len(self.said) >= self._max_tokens else Next([token])

    def _end(self, finish: Finish) -> Next:
        self.finish = finish
        self._tell(self._stream.end())
        return END

    def _tell(self, piece: str) -> None:
        if piece:
            self.text += piece
            self._on_text(piece)


class Written:
    """Text that a grammar allows: calls, or an answer of a wanted form.

    What does not fit into max_tokens is cut off, and so is what only repeats itself; of several calls, the whole ones
    outlast the cut. opening: what it begins with before there is anything to choose.
    """

    def __init__(
        self, alphabet: Alphabet, sampler: Sampler, grammar: Grammar, *, max_tokens: int,
        opening: Sequence[int] = (), on_text: Hear | None = None,
    ) -> None:  # fmt: skip
        self._alphabet, self._sampler, self._grammar = alphabet, sampler, grammar
        self._max_tokens, self._on_text = max_tokens, on_text
        self._stream = TextStream(alphabet.vocabulary)
        self._whole = 0
        self.fit = 0.0
        self.unread = 0
        self.opening = list(opening)
        self.said: list[int] = []
        self.finish: Finish = "length"

    @property
    def text(self) -> str:
        """What has been written."""
        return self._alphabet.text_of(self.said)

    @property
    def kept(self) -> str:
        """What has been written up to where it was whole for the last time; "" if it never was."""
        return self._alphabet.text_of(self.said[: self._whole])

    @property
    def whole(self) -> bool:
        """Whether all that has been written is something that the grammar allows."""
        return self.finish == "stop" or self._whole == len(self.said)

    def open(self) -> Next:
        """The opening."""
        self._grammar.accept(self.opening)
        return self._say(self.opening)

    @property
    def named(self) -> bool:
        """Whether the name of the first call is whole."""
        return NAME.match(self._alphabet.text_of(self.said[len(self.opening) :])) is not None

    def spell(self, scores: Scores) -> Next:
        """The next token of a name; nothing is forced ahead, for the chance of each is asked: `fit` adds their logarithms."""
        token = self._choose(scores)
        self.fit += float(log_softmax(scores.all())[token])
        self._grammar.accept([token])
        return self._say([token])

    def follow(self, scores: Scores) -> Next:
        """The next token and all those that are forced by it."""
        if forced := self._grammar.forced():
            return self._say(forced)
        token = self._choose(scores)
        if token in self._alphabet.ends and self._grammar.complete:
            self.finish, self.unread = "stop", 0
            return END
        self._grammar.accept([token])
        return self._say([token, *(() if self._grammar.finished else self._grammar.forced())])

    def _choose(self, scores: Scores) -> int:
        """The likeliest token is mostly allowed, and asking about one is much cheaper than asking about all."""
        if self._sampler.greedy and self._grammar.takes(token := scores.best()):
            return token
        return self._sampler.choose(scores, self._grammar.allowed())

    def _say(self, tokens: list[int]) -> Next:
        self.said += tokens
        self.unread = len(tokens)  # until the engine asks again
        if self._grammar.complete:
            self._whole = len(self.said)
        self._tell("".join(self._stream.push(token) for token in tokens))
        if self._grammar.finished:
            self.finish = "stop"
            self._tell(self._stream.end())
            return END
        return END if len(self.said) >= self._max_tokens or repeats(self.said) else Next(tokens)

    def _tell(self, piece: str) -> None:
        if piece and self._on_text:
            self._on_text(piece)


def repeats(tokens: Sequence[int]) -> bool:
    """Whether the last LOOP tokens are a cycle of at most PERIOD."""
    tail = tokens[-LOOP:]
    return len(tail) == LOOP and any(tail[period:] == tail[:-period] for period in range(1, PERIOD + 1))


class Turn:
    """A model's turn: its first scores say whether it calls (only where a call is offered) or answers.

    While the name of a call is spelled the choice is made again at each token: a call whose name the model would not
    have written by itself is taken back, for it wanted another tool, and the nearest one offered (restart for renew) would
    be the wrong thing done. So is a whole call with too many arguments that nobody spoke of; invented: counts them. again: what
    to drop and to read in place of the prompt before the answer to a call taken back, which would else tell of the call.
    slack: how far, in log-odds, the closest of these decisions was from the other one.
    """

    def __init__(
        self, answer: Answer | Written, call: Written | None = None, choice: Choice | None = None,
        invented: Callable[[Written], int] | None = None, again: Callable[[], Next] | None = None,
    ) -> None:  # fmt: skip
        self._answer, self._call, self.choice = answer, call, choice
        self._invented, self._again = invented, again
        self._first: HostScores | None = None
        self._begun = False
        self.chosen: Answer | Written = answer
        self.odds = 0.0
        self.slack = math.inf

    @property
    def calls(self) -> bool:
        """Whether the turn is a call."""
        return self.chosen is self._call

    def follow(self, scores: Scores) -> Next:
        """Choose at the first scores and at each token of a name, then go on with what was chosen."""
        if self._call is None or self.choice is None:
            return self._answer.follow(scores)
        if not self._begun:
            self._begun = True
            return self._decide(scores, self._call, self.choice)
        if self.calls and not self._call.named:
            return self._spell(scores, self._call, self.choice)
        following = self.chosen.follow(scores)
        if self.calls and not following.tokens and self._invented:
            return self._end(following, self._call, self.choice, self._invented(self._call))
        return following

    def _decide(self, scores: Scores, call: Written, choice: Choice) -> Next:
        self.odds = choice.odds(scores)
        if not self._means(choice):
            # One that would rather call tells of the call, where it may not make it.
            return self._take_back(call, scores) if self.odds > 0 else self._answer.follow(scores)
        self.chosen = call
        # Scores are good until the next step, and the answer would begin from these.
        self._first = HostScores(scores.all().copy())
        return call.open() if call.opening else self._spell(scores, call, choice)

    def _spell(self, scores: Scores, call: Written, choice: Choice) -> Next:
        following = call.spell(scores)
        return following if self._means(choice, call.fit) else self._take_back(call, self._first or scores)

    def _end(self, following: Next, call: Written, choice: Choice, invented: int) -> Next:
        meant = self._means(choice, call.fit, invented)
        return following if meant or self._first is None else self._take_back(call, self._first)

    def _means(self, choice: Choice, fit: float = 0.0, invented: int = 0) -> bool:
        lead = choice.lead(self.odds, fit, invented)
        self.slack = min(self.slack, abs(lead))
        return lead > 0

    def _take_back(self, call: Written, first: Scores) -> Next:
        """Answer as if the call had not been begun; what was chosen last was never read."""
        self.chosen = self._answer
        if self._again:
            anew = self._again()
            return Next(anew.tokens, drop=anew.drop + len(call.said) - call.unread)
        return Next(self._answer.follow(first).tokens, drop=len(call.said) - call.unread)
