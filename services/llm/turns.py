"""From a prompt to the turn that guides the model through it, and from what it then wrote to a reply."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.messages import Prompt
from services.llm.chat import parts, spelled
from services.llm.choice import Choice
from services.llm.grammar import Grammar, Grammars
from services.llm.grounding import grounded, invented
from services.llm.guides import MARKUP, Alphabet, Answer, Hear, Turn, Written
from services.llm.replies import Reply, checked, read_reply
from services.llm.sampling import Allowed, Sampler, Samplers
from services.llm.stream import Next
from services.llm.tokenizer import Vocabulary
from services.llm.wire.form import Malformed, Markup, Wire
from services.llm.wire.showing import Showing


@dataclass(frozen=True)
class Speech:
    """A turn and how its text is read. showing: of a turn that nothing constrains."""

    prompt: Prompt
    wire: Wire
    turn: Turn
    showing: Showing | None = None

    @property
    def said(self) -> Sequence[int]:
        """The tokens of the model's own words."""
        return self.turn.chosen.said

    def reply(self) -> Reply:
        """What the turn says, when it has come to its end."""
        if self.showing:
            reply = read_reply(self.showing.text, self.prompt, self.wire)
            self.showing.end("" if reply.calls or reply.malformed else reply.text)
            return reply
        chosen = self.turn.chosen
        if isinstance(chosen, Answer):
            return Reply(chosen.text)
        return grounded(called(chosen, self.prompt, self.wire), self.prompt) if self.turn.calls else self._formed(chosen)

    def _formed(self, answer: Written) -> Reply:
        if not answer.whole:
            return Reply(answer.text, malformed=f"The answer was cut off after {len(answer.said)} tokens; write a shorter one.")
        return checked(answer.text, (), self.prompt)


def called(call: Written, prompt: Prompt, wire: Wire) -> Reply:
    """What a written call says."""
    if not call.kept:
        return Reply(call.text, malformed=f"Its call was cut off after {len(call.said)} tokens; write a shorter one.")
    try:
        read = wire.parse(call.kept)
    except Malformed as error:  # what grammars cannot say: numbers too large, a key twice, nesting too deep
        return Reply(call.kept, malformed=str(error))
    return checked(read.text, read.calls, prompt, whole=call.kept)


class Turns:
    """Makes the turns of one model. ends: the tokens that end its messages; rows: how many logits it computes.

    decides: it was trained to tell when to call: a prompt's margin, meant for models that were not, is passed over.
    """

    def __init__(self, vocabulary: Vocabulary, ends: Sequence[int], *, rows: int, decides: bool = False) -> None:
        self._vocabulary = vocabulary
        self._decides = decides
        self._alphabet = Alphabet(vocabulary, ends, rows=rows)
        self._grammars = Grammars(vocabulary, ends, rows=rows)

    def speech(
        self, prompt: Prompt, wire: Wire, *, longest: int, on_text: Hear, again: Callable[[], Next] | None = None,
        samplers: Samplers = Sampler,
    ) -> Speech:  # fmt: skip
        """A turn of at most `longest` tokens; again: see Turn. Raises SchemaRefused, OutputRefused."""
        if prompt.manner.constrained:
            return Speech(prompt, wire, self._constrained(prompt, wire, longest, on_text, again, samplers))
        showing = Showing(wire if prompt.offered else None, on_text)
        return Speech(prompt, wire, Turn(self._free(prompt, wire, longest, showing.hear, samplers)), showing)

    def _free(self, prompt: Prompt, wire: Wire, longest: int, on_text: Hear, samplers: Samplers) -> Answer:
        """Whatever the model will; where it may call, the special tokens of calls are words, too."""
        sampler = samplers(prompt.sampling)
        if not prompt.offered:
            return Answer(self._alphabet, sampler, max_tokens=longest, on_text=on_text)
        markup = (wire.opening, wire.between, wire.closing, *(Markup(stop) for stop in wire.stops))
        special = {part for text in markup for part in parts(text, self._vocabulary) if isinstance(part, int)}
        words = self._alphabet.wording(special)
        return Answer(self._alphabet, sampler, max_tokens=longest, on_text=on_text, words=words, stops=wire.stops)

    def _constrained(
        self, prompt: Prompt, wire: Wire, longest: int, on_text: Hear, again: Callable[[], Next] | None, samplers: Samplers
    ) -> Turn:
        """An answer, of the wanted form if there is one, or calls that fit their schemas."""
        answer, words = self._answer(prompt, wire, longest, on_text, samplers(prompt.sampling))
        if not prompt.offered or prompt.manner.calls == "never":
            return Turn(answer)
        grammar = self._grammars.of_calls(prompt.offered, wire, several=prompt.manner.parallel and wire.several)
        calls = self._beginning_of_calls(wire, grammar)
        if prompt.manner.output is None:
            words = self._beginning_of_words(wire, words & ~calls)
        call = Written(
            self._alphabet, samplers(prompt.sampling), grammar, max_tokens=longest,
            opening=spelled([wire.opening], self._vocabulary),
        )  # fmt: skip
        if prompt.manner.calls == "required":
            return Turn(answer, call, Choice(calls, words, margin=-math.inf))
        choice = Choice(calls, words, margin=0.0 if self._decides else prompt.call_margin)
        return Turn(
            answer, call, choice, invented=lambda written: invented(called(written, prompt, wire), prompt), again=again
        )  # fmt: skip

    def _answer(
        self, prompt: Prompt, wire: Wire, longest: int, on_text: Hear, sampler: Sampler
    ) -> tuple[Answer | Written, Allowed]:
        """An answer, and the tokens that it may begin with."""
        words = self._alphabet.first_words
        if prompt.manner.output:
            grammar = self._grammars.of_answer(prompt.manner.output)
            formed = Written(self._alphabet, sampler, grammar, max_tokens=longest, on_text=on_text)
            return formed, grammar.allowed()
        # Where tools are about, a text that begins as markup is a call gone wrong or an echo of a result.
        plain = bool(prompt.offered) or any(message.role == "tool" for message in prompt.messages)
        opening = spelled([wire.answer], self._vocabulary) if plain else []
        first = words if plain else None
        return Answer(self._alphabet, sampler, max_tokens=longest, on_text=on_text, opening=opening, first=first), words

    def _beginning_of_words(self, wire: Wire, words: Allowed) -> Allowed:
        """The tokens that an answer begins with: words, or what stands before them; where that is blank, it may lack."""
        if not wire.answer:
            return words
        opening = self._alphabet.beginning(wire.answer)
        return opening if wire.answer.strip() else words | opening

    def _beginning_of_calls(self, wire: Wire, grammar: Grammar) -> Allowed:
        """The tokens that a call begins with: any markup where it begins as such, else its own text or a tool's name."""
        if wire.opening.encode().startswith(MARKUP):
            return self._alphabet.markup
        return self._alphabet.beginning(wire.opening) if wire.opening else grammar.allowed()
