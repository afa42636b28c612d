"""Any benchmark with its tools shown otherwise: what changes is what a model sees, and never what is right.

What is shown is changed on the way to whoever is examined, and the calls that come back are put into the benchmark's own words
again, so that every rule, every figure and every simulated world stays as it is, and two variants of an item are compared as
one item. The same item is shown in the same way each time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from schemas.errors import MilepostError
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example, Skipped
from services.datasets.mixing.chance import dice
from services.datasets.mixing.distractors import Pool
from services.datasets.mixing.renaming import renamed
from services.evaluation.benchmark import Benchmark, Speak
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import Wanted
from services.evaluation.metrics.intervals import Measured
from services.evaluation.totals import Rate

SEED = 20_260_101
DISTRACTORS = 8
NEAR = 0.5  # of them have a name like a right one
NOT_OFFERED = " (not offered)"


class Shown(NamedTuple):
    """What is shown in place of messages and cards, and how calls are put back."""

    messages: Sequence[Message]
    cards: Sequence[ToolCard]
    back: Callable[[ToolCall], ToolCall]


class Varied(Benchmark, ABC):
    """A benchmark under a variant; its names are those of the benchmark."""

    def __init__(self, inner: Benchmark) -> None:
        self._inner = inner
        self.name, self.title, self.source = inner.name, inner.title, inner.source
        self.data, self.parts, self.languages = inner.data, inner.parts, inner.languages

    @abstractmethod
    def shown(self, item: Item, messages: Sequence[Message], cards: Sequence[ToolCard]) -> Shown:
        """What is shown of an item's conversation as far as it has come."""

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        return self._inner.items(folder, part)

    async def answer(self, item: Item, speak: Speak) -> Reply:
        async def speak_varied(messages: Sequence[Message], cards: Sequence[ToolCard]) -> Reply:
            shown = self.shown(item, messages, cards)
            reply = await speak(shown.messages, shown.cards)
            return reply.model_copy(update={"calls": tuple(map(shown.back, reply.calls))}) if reply.calls else reply

        return await self._inner.answer(item, speak_varied)

    def judge(self, item: Item, reply: Reply) -> str:
        return self._inner.judge(item, reply)

    def wrong(self, item: Item, reply: Reply) -> str:
        return self._inner.wrong(item, reply)

    def wanted(self, item: Item) -> Sequence[Wanted] | None:
        return self._inner.wanted(item)

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        return self._inner.also(item, reply)

    def measured(self, item: Item, reply: Reply) -> dict[str, Measured]:
        return self._inner.measured(item, reply)

    def figures(self, answered: Sequence[tuple[Item, Reply]]) -> Mapping[str, Rate]:
        return self._inner.figures(answered)


class _Renamed(Varied):
    """Other names of tools or of their parameters, in cards, calls and results."""

    tools, parameters = True, False

    def shown(self, item: Item, messages: Sequence[Message], cards: Sequence[ToolCard]) -> Shown:
        system = "\n".join(message.content for message in messages if message.role == "system")
        rest = tuple(message for message in messages if message.role != "system")
        example = Example(item.id, (), system, tuple(cards), rest)
        made = renamed(example, dice(SEED, item.id), tools=self.tools, parameters=self.parameters)
        told = (Message(role="system", content=made.system), *made.messages) if system else made.messages
        return Shown(told, made.tools, _back(cards, made.tools))


class _Parameters(_Renamed):
    tools, parameters = False, True


class _Shuffled(Varied):
    """The same tools in another order."""

    def shown(self, item: Item, messages: Sequence[Message], cards: Sequence[ToolCard]) -> Shown:
        order = list(cards)
        dice(SEED, item.id).shuffle(order)
        return Shown(messages, order, _as_it_is)


class _Distractors(Varied):
    """Tools of other items beside an item's own."""

    def __init__(self, inner: Benchmark) -> None:
        super().__init__(inner)
        self._cards: dict[str, ToolCard] = {}
        self._pool: Pool | None = None

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        for item in super().items(folder, part):
            if isinstance(item, Item):
                for card in item.cards:
                    self._cards.setdefault(card.name, card)
            yield item

    def shown(self, item: Item, messages: Sequence[Message], cards: Sequence[ToolCard]) -> Shown:
        every = [*cards, *self._drawn(item, cards)]
        dice(SEED, item.id, "order").shuffle(every)
        return Shown(messages, every, _as_it_is)

    def measured(self, item: Item, reply: Reply) -> dict[str, Measured]:
        """A call to a tool that was shown beside the item's is wrong, but valid."""
        return super().measured(replace(item, cards=(*item.cards, *self._drawn(item, item.cards))), reply)

    def _drawn(self, item: Item, cards: Sequence[ToolCard]) -> list[ToolCard]:
        if self._pool is None:
            self._pool = Pool(self._cards.values())
        right = tuple(dict.fromkeys(call.name for call in item.calls))
        return self._pool.draw(DISTRACTORS, right, cards, NEAR if right else None, dice(SEED, item.id))


VARIANTS: Mapping[str, type[Varied]] = {
    "renamed": _Renamed, "parameters": _Parameters, "shuffled": _Shuffled, "distractors": _Distractors,
}  # fmt: skip


def varied(benchmark: Benchmark, variant: str) -> Benchmark:
    """The benchmark under a variant; itself for "". Raises MilepostError for one that there is none of."""
    if not variant:
        return benchmark
    if variant not in VARIANTS:
        raise MilepostError(
            f"There is no variant {variant!r}.", why=f"there are {', '.join(VARIANTS)}", hint="--variant renamed"
        )
    return VARIANTS[variant](benchmark)


def _as_it_is(call: ToolCall) -> ToolCall:
    return call


def _back(cards: Sequence[ToolCard], shown: Sequence[ToolCard]) -> Callable[[ToolCall], ToolCall]:
    """Puts a call into the names that the tools had. A name that was not shown is none, even if a tool had it before."""
    names = {now.name: was.name for was, now in zip(cards, shown, strict=True)}
    fields = {now.name: _fields(was.parameters, now.parameters) for was, now in zip(cards, shown, strict=True)}

    def back(call: ToolCall) -> ToolCall:
        if call.name not in names:
            return call.model_copy(update={"name": call.name + NOT_OFFERED})
        known = fields[call.name]
        arguments = {_own(name, known): _inner(value, known) for name, value in call.arguments.items()}
        return call.model_copy(update={"name": names[call.name], "arguments": arguments})

    return back


def _own(name: str, fields: Mapping[str, str]) -> str:
    """A parameter's own name; one that is no longer shown is nobody's."""
    return fields.get(name, name + NOT_OFFERED if name in fields.values() else name)


def _inner(value: object, fields: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {_own(name, fields): _inner(each, fields) for name, each in value.items()}
    return [_inner(each, fields) for each in value] if isinstance(value, list) else value


def _fields(was: object, now: object) -> dict[str, str]:
    """What the properties of one schema, nested ones too, are called in the other: both have them in the same order."""
    found: dict[str, str] = {}
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for (key, before), (_, after) in zip(was.items(), now.items(), strict=True):
            if key == "properties" and isinstance(before, Mapping) and isinstance(after, Mapping):
                found.update(zip(after, before, strict=True))
                for inner, other in zip(before.values(), after.values(), strict=True):
                    found |= _fields(inner, other)
            else:
                found |= _fields(before, after)
    elif isinstance(was, list) and isinstance(now, list):
        for before, after in zip(was, now, strict=True):
            found |= _fields(before, after)
    return found
