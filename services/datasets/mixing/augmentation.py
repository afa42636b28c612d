"""What is done to conversations that a mixture took: tools beside the right ones, other names, another order, no calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from services.datasets.example import Example
from services.datasets.mixing.chance import dice, number, share
from services.datasets.mixing.distractors import Pool, offered_among, with_tools
from services.datasets.mixing.no_call import refused, talked
from services.datasets.mixing.plain_talk import TALK
from services.datasets.mixing.renaming import renamed

Drawn = tuple[Example, int]
"""A conversation, and how often it was taken before."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is done, and to how many.

    least, most: tools added to each conversation; near: the share of them with a name like a right one's. tools: how many may
    be offered in all, 0 for any number. rename_tools, rename_parameters: the shares of conversations; neutral: of new names,
    those that tell nothing. no_call: the share without calls, None for as it comes; made: the least share of them that is made
    of others; plain: of those made, that of plain talk.
    """

    least: int = 0
    most: int = 0
    near: float = 0.5
    tools: int = 0
    rename_tools: float = 0.0
    rename_parameters: float = 0.0
    neutral: float = 0.5
    no_call: float | None = None
    made: float = 0.0
    plain: float = 0.25
    shuffle: bool = True


def clarifies(example: Example) -> bool:
    """Whether the assistant asks back in it: it ends its words with a question mark, or speaks before its first call."""
    said = [message for message in example.messages if message.role == "assistant"]
    before = next((place for place, message in enumerate(said) if message.calls), 0)
    asks = any(not each.calls and each.content.rstrip().endswith(("?", "？")) for each in said)
    return before > 0 or asks


def kept_clarifying(examples: Sequence[Example], kept: float, seed: int) -> list[Example]:
    """All but a share of those in which the assistant asks back."""
    return [each for each in examples if share(seed, "clarifying", each.id) < kept or not clarifies(each)]


class Augmentation:
    """pools: tools to draw from, by language; foreign: those of other sources, by language and source.

    length: tokens of a conversation; longest: how many it may have, 0 for any.
    """

    def __init__(
        self, options: Options, pools: Mapping[str, Pool], seed: int, length: Callable[[Example], int], longest: int = 0,
        foreign: Mapping[tuple[str, str], Pool] | None = None,
    ) -> None:  # fmt: skip
        self._options, self._pools, self._seed, self._foreign = options, pools, seed, foreign or {}
        self._length, self._longest = length, longest
        self.done: Counter[str] = Counter()

    def applied(self, drawn: Sequence[Drawn]) -> Iterator[Example]:
        """All of them as they are to be learnt; `done` counts what was done, and what was left out as too long."""
        for example, times in self._quiet(drawn):
            if (made := self._one(example, times)) is not None:
                yield made

    def _quiet(self, drawn: Sequence[Drawn]) -> list[Drawn]:
        """With the share of conversations without calls that is wanted."""
        options, wanted = self._options, self._options.no_call
        if wanted is None or not drawn:
            return list(drawn)
        order = sorted(range(len(drawn)), key=lambda place: (self._key("no call", drawn[place]), place))
        quiet = [place for place in order if not drawn[place][0].calls]
        loud = [place for place in order if drawn[place][0].calls]
        # With k of the quiet kept and m of the loud made quiet, (m + k) / (loud + k) is the share, and m a part of m + k.
        kept = min(len(quiet), int(wanted * len(loud) * (1 - options.made) / (1 - wanted * (1 - options.made))))
        missing = round(wanted * (len(loud) + kept)) - kept
        gone = set(quiet[kept:])
        self.done["no call, left out"] += len(gone)
        made = {place: each for place, each in enumerate(drawn) if place not in gone}
        for place in loud:
            if missing <= 0:
                break
            if (example := self._without_call(*drawn[place])) is not None:
                made[place] = (example, drawn[place][1])
                missing -= 1
        return [made[place] for place in sorted(made)]

    def _without_call(self, example: Example, times: int) -> Example | None:
        rolled = dice(self._seed, "without call", example.id, times)
        pool, most = self._pool(example), max(1, self._options.tools or len(example.tools))
        talk = TALK.get(example.language)
        if talk and rolled.random() < self._options.plain:
            made: Example | None = talked(example, rolled.choice(talk), pool, rolled, most=most)
            self.done["plain talk"] += 1
        elif made := refused(example, pool, rolled, most=most):
            self.done["refused"] += 1
        return made

    def _one(self, example: Example, times: int) -> Example | None:
        options, rolled = self._options, dice(self._seed, "augment", example.id, times)
        if options.tools:
            example = offered_among(example, options.tools, rolled)
        example = self._with_more(example, rolled)
        if options.shuffle:
            example = with_tools(example, rolled.sample(example.tools, len(example.tools)))
        example = self._renamed(example, times)
        fitting = self._fitting(example)
        if fitting is None:
            self.done["too long"] += 1
            return None
        return replace(fitting, id=f"{fitting.id}~{times + 1}") if times else fitting

    def _with_more(self, example: Example, rolled: Random) -> Example:
        """With tools added. Where nothing is called, one of the same source might be the right one: they are of another.

        Without them, few tools would tell that none is right.
        """
        options = self._options
        room = options.tools - len(example.tools) if options.tools else options.most
        wanted = min(room, rolled.randint(options.least, options.most))
        made = example.group.startswith("no-call/")  # it was given its tools already
        if wanted <= 0 or made or not example.tools:
            return example
        if example.calls:
            more = self._pool(example).draw(wanted, sorted(example.calls), example.tools, options.near, rolled)
        else:
            other = self._foreign.get((example.language, example.source), Pool(()))
            more = other.draw(wanted, [card.name for card in example.tools], example.tools, None, rolled)
        self.done["tools added"] += len(more)
        return with_tools(example, (*example.tools, *more))

    def _renamed(self, example: Example, times: int) -> Example:
        options = self._options
        tools = share(self._seed, "rename tools", example.id, times) < options.rename_tools
        parameters = share(self._seed, "rename parameters", example.id, times) < options.rename_parameters
        if not example.tools or not (tools or parameters):
            return example
        rolled = dice(self._seed, "rename", example.id, times)
        self.done["renamed"] += 1
        made = renamed(example, rolled, tools=tools, parameters=parameters, neutral=options.neutral)
        return replace(made, id=f"{made.id}~renamed")

    def _fitting(self, example: Example) -> Example | None:
        """With fewer tools that are not called, if it is too long; None if that is not enough."""
        while self._longest and self._length(example) > self._longest:
            spare = [card for card in example.tools if card.name not in example.calls]
            if not spare or (len(spare) == 1 and not example.calls):
                return None
            example = with_tools(example, [card for card in example.tools if card.name != spare[-1].name])
        return example

    def _pool(self, example: Example) -> Pool:
        return self._pools.get(example.language) or Pool(())

    def _key(self, purpose: str, drawn: Drawn) -> int:
        return number(self._seed, purpose, drawn[0].id, drawn[1])
