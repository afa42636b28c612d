"""Executing a recorded generation again: whether it says the same, where it does not, and which tokens were close to others.

How close is measured on the spot. The reply is made once as a certified stream makes it, with someone looking on as tokens are
chosen; then the very same tokens are read once more in other pieces, as a prefix that is reused, a guess or other company in
the engine would have them read. By how much the lead of a chosen token over the others changes between the two is what the
arithmetic leaves open on this machine, and a token that led by less could as well have been another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runtime.certifying import (
    Asked,
    Checked,
    Narrow,
    Parting,
    Spread,
    conditions,
    judged,
    may_differ,
    parting,
    says_the_same,
    shared,
)
from schemas.messages import Generation, Prompt, Sampling
from services.llm import wire
from services.llm.choice import MOST_ODDS
from services.llm.guides import Turn
from services.llm.onnx_model import OnnxModel, Spoken
from services.llm.sampling import Allowed, Sampler
from services.llm.scores import Scores
from services.llm.stream import Next
from services.llm.tokenizer import TextStream

# The prompt is read again in pieces of these many tokens, and its last ones one by one, as the tokens of replies are.
PIECE, SINGLE = 37, 24
# Others than the chosen token whose logits are kept: what lies further below is no rival.
RIVALS = 16


@dataclass(frozen=True)
class Pick:
    """A choice. step: after how many answers of the guide; place: of the token in the reply, from 0; writing: call or answer.

    rivals: the likeliest of the others that were allowed [n], best first; leads: of the chosen one over them [n].
    """

    step: int
    place: int
    writing: object
    token: int
    rivals: NDArray[np.int64]
    leads: NDArray[np.float64]
    drawn: bool

    @property
    def margin(self) -> float:
        """By how much it led; infinite where nothing else was allowed."""
        return float(self.leads[0]) if len(self.leads) else math.inf


async def recheck(model: OnnxModel, asked: Asked) -> Checked:
    """Execute a generation again in certified mode; one that was not certified so, with the measure of what that leaves open.

    Raises what the model raises, and ValueError for one whose prompt is not known.
    """
    if asked.prompt is None:
        raise ValueError("a generation without its prompt cannot be executed again")
    recorded = asked.generation
    watch = None if recorded.certificate else Watch()
    spoken = await _spoken(model, asked.prompt, watch)
    now = spoken.generation
    verdict = judged(recorded, now)
    same = says_the_same(recorded, now)
    return Checked(
        asked, verdict, same=same, now=now, conditions=conditions(recorded, now),
        parting=None if same else _parting(model, spoken, recorded),
        may=may_differ(recorded) if verdict == "uncertified" else (),
        spread=await _spread(model, spoken, watch) if watch else None,
    )  # fmt: skip


async def _spoken(model: OnnxModel, prompt: Prompt, watch: Watch | None) -> Spoken:
    if watch is None:
        return await model.speak(prompt, on_text=_nobody, certified=True)
    return await model.speak(prompt, on_text=_nobody, certified=True, samplers=watch.sampler, watched=watch.around)


def _nobody(_: str) -> None:
    pass


# --- where two replies part -----------------------------------------------------------------------


def _parting(model: OnnxModel, spoken: Spoken, recorded: Generation) -> Parting:
    """The first place in which the recorded reply is another one, as characters and as a token of the reply that is made now.

    What tokens a recorded reply had is known by their digest alone, so it is compared as it would be written.
    """
    old, new = (_written(spoken, each) for each in (recorded, spoken.generation))
    at = shared(old, new)
    return parting(old, new, None if old == new else _token(model, spoken, new, at))


def _written(spoken: Spoken, generation: Generation) -> str:
    """A reply in the wire form."""
    if generation.malformed:
        return generation.text
    calls = [wire.form.Asked(call.name, call.arguments) for call in generation.calls]
    cards = {card.name: card for card in spoken.speech.prompt.offered}
    form = spoken.speech.wire
    return "".join(form.said(generation.text, calls, cards)) if calls else generation.text


def _token(model: OnnxModel, spoken: Spoken, text: str, at: int) -> int | None:
    """Which token of the reply writes the character at a place of its text, from 1; None if the text is not what it wrote."""
    vocabulary, stream = model.vocabulary, TextStream(model.vocabulary)
    pieces = [
        vocabulary.bytes_of(token).decode() if vocabulary.is_special(token) else stream.push(token)
        for token in spoken.speech.said
    ]  # fmt: skip
    begun = "".join([*pieces, stream.end()]).find(text)
    if begun < 0:
        return None
    ends = np.cumsum([len(piece) for piece in pieces])
    return int(np.searchsorted(ends, begun + at, side="right")) + 1


# --- how close it was -----------------------------------------------------------------------------


@dataclass
class Watch:
    """Looks on as a turn chooses its tokens. steps: what the turn said followed, in order."""

    picks: list[Pick] = field(default_factory=list)
    steps: list[Next] = field(default_factory=list)
    _turn: Turn | None = None

    @property
    def turn(self) -> Turn:
        """The turn that is watched. Raises ValueError before there is one."""
        if self._turn is None:
            raise ValueError("nothing was watched yet")
        return self._turn

    def around(self, turn: Turn) -> Watch:
        """The guide in its place."""
        self._turn = turn
        return self

    def follow(self, scores: Scores) -> Next:
        """What the turn says."""
        following = self.turn.follow(scores)
        self.steps.append(following)
        return following

    def sampler(self, sampling: Sampling) -> Sampler:
        """A sampler that tells of its choices."""
        return _Telling(sampling, self)

    def told(self, token: int, scores: Scores, allowed: Allowed | None, *, drawn: bool) -> None:
        """A token was chosen."""
        logits, turn = scores.all().astype(np.float64), self.turn
        rivals = _rivals(logits, allowed, token)
        self.picks.append(
            Pick(len(self.steps), len(turn.chosen.said), turn.chosen, token, rivals, logits[token] - logits[rivals], drawn)
        )


class _Telling(Sampler):
    """Chooses as any sampler, but is asked every time."""

    greedy = False

    def __init__(self, sampling: Sampling, watch: Watch) -> None:
        super().__init__(sampling)
        self._watch, self._drawn = watch, sampling.temperature > 0

    def choose(self, scores: Scores, allowed: Allowed | None = None) -> int:
        token = super().choose(scores, allowed)
        self._watch.told(token, scores, allowed, drawn=self._drawn)
        return token


def _rivals(logits: NDArray[np.float64], allowed: Allowed | None, token: int) -> NDArray[np.int64]:
    """The likeliest tokens that could have been chosen instead [at most RIVALS], best first."""
    masked = logits.copy() if allowed is None else np.where(allowed, logits, -np.inf)
    masked[token] = -np.inf
    count = min(RIVALS, int(np.isfinite(masked).sum()))
    if not count:
        return np.array([], np.int64)
    found = np.argpartition(-masked, count - 1)[:count]
    return np.asarray(found[np.argsort(-masked[found], kind="stable")], np.int64)


class _Again:
    """Reads what was said once more in other pieces, and sees how the leads of the chosen tokens have changed."""

    def __init__(self, watch: Watch, pieces: Sequence[Sequence[int]]) -> None:
        self._watch, self._waiting = watch, [Next(piece) for piece in pieces]
        self._step = 0
        self.shift = 0.0
        self.turned: set[int] = set()
        self.odds = math.nan

    def follow(self, scores: Scores) -> Next:
        if not self._waiting:
            self._compare(scores)
            self._waiting = _one_by_one(self._watch.steps[self._step])
            self._step += 1
        return self._waiting.pop(0)

    def _compare(self, scores: Scores) -> None:
        logits = scores.all().astype(np.float64)
        for pick in self._watch.picks:
            if pick.step == self._step and len(pick.rivals):
                leads = logits[pick.token] - logits[pick.rivals]
                self.shift = max(self.shift, float(np.abs(leads - pick.leads).max()))
                if leads.min() < 0:
                    self.turned.add(id(pick))
        if self._step == 0 and self._watch.turn.choice:
            self.odds = self._watch.turn.choice.odds(scores)


def _one_by_one(following: Next) -> list[Next]:
    """The same in steps of single tokens."""
    if not following.tokens:
        return [following]
    first, *others = following.tokens
    return [Next([first], following.drop), *(Next([token]) for token in others)]


async def _spread(model: OnnxModel, spoken: Spoken, watch: Watch) -> Spread:
    """Read the same in other pieces, and measure."""
    first, *others = _pieces(spoken.prompt)
    again = _Again(watch, others)
    await model.read(first, again)
    turn = watch.turn
    picks = [pick for pick in watch.picks if pick.writing is turn.chosen]
    drawn = any(pick.drawn for pick in picks)
    decided = None
    if turn.choice and math.isfinite(turn.slack):
        decided = (turn.slack, abs(min(again.odds, MOST_ODDS) - min(turn.odds, MOST_ODDS)))
    turned = sum(id(pick) in again.turned for pick in picks if not drawn)
    narrow = () if drawn else tuple(_narrow(model, pick) for pick in picks if pick.margin <= again.shift)
    least = math.nan if drawn else min((pick.margin for pick in picks), default=math.inf)
    return Spread(len(picks), drawn, least, again.shift, turned, narrow, decided)


def _pieces(prompt: Sequence[int]) -> list[list[int]]:
    tokens = list(prompt)
    whole = max(1, len(tokens) - SINGLE)
    pieces = [tokens[at : min(at + PIECE, whole)] for at in range(0, whole, PIECE)]
    return [*pieces, *([token] for token in tokens[whole:])]


def _narrow(model: OnnxModel, pick: Pick) -> Narrow:
    text, other = (model.vocabulary.bytes_of(token).decode(errors="replace") for token in (pick.token, int(pick.rivals[0])))
    return Narrow(pick.place + 1, text, other, pick.margin)
