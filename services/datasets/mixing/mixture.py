"""How many conversations of each source a mixture takes, and which: by weight, under caps, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.datasets.example import Example
from services.datasets.mixing.chance import number


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a source: so many of its conversations, or a part of what is left by weight.

    repeat: how often one conversation may be taken. count: 0 where the weight decides.
    """

    name: str
    weight: float = 1.0
    count: int = 0
    repeat: int = 1


def capped(examples: Sequence[Example], per_tool: int = 0, per_group: int = 0, seed: int = 0) -> list[Example]:
    """At most so many conversations that call a tool, and so many of a group, in the order they had. 0: no cap."""
    tools: Counter[str] = Counter()
    groups: Counter[str] = Counter()
    kept = set()
    for place in _order(examples, seed, "cap"):
        example = examples[place]
        full = per_tool and any(tools[name] >= per_tool for name in example.calls)
        if full or (per_group and groups[example.group] >= per_group):
            continue
        tools.update(example.calls)
        groups[example.group] += 1
        kept.add(place)
    return [example for place, example in enumerate(examples) if place in kept]


def counts(wanted: Sequence[Wanted], there: Mapping[str, int], size: int = 0) -> dict[str, int]:
    """How many to take of each source. there: how many it has; size: of the mixture, 0 for as large as the weights allow.

    What a source cannot give under its `repeat` falls to the others by weight. Without a size, no weight is given up: the
    scarcest source decides. Raises ValueError for a weight that is not positive.
    """
    if wrong := [each.name for each in wanted if not each.count and not each.weight > 0]:
        raise ValueError(f"the weight of {wrong[0]} is not positive")
    most = {each.name: there[each.name] * each.repeat for each in wanted}
    taken = {each.name: min(each.count, most[each.name]) for each in wanted if each.count}
    weighed = {each.name: each.weight for each in wanted if not each.count and most[each.name]}
    if not size:
        unit = min((most[name] / weight for name, weight in weighed.items()), default=0.0)
        return {**{each.name: 0 for each in wanted}, **taken, **{name: int(unit * each) for name, each in weighed.items()}}
    left = max(0, size - sum(taken.values()))
    while weighed:
        total = sum(weighed.values())
        scarce = {name for name, weight in weighed.items() if most[name] < left * weight / total}
        if not scarce:
            taken.update(_rounded({name: left * weight / total for name, weight in weighed.items()}, left))
            break
        for name in sorted(scarce):
            taken[name] = most[name]
            left -= most[name]
            del weighed[name]
    return {each.name: taken.get(each.name, 0) for each in wanted}


def _rounded(exact: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that add up to the total: the largest remainders are rounded up."""
    whole = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda each: (whole[each] - exact[each], each))[: total - sum(whole.values())]:
        whole[name] += 1
    return whole


def drawn(examples: Sequence[Example], count: int, seed: int, name: str) -> list[tuple[Example, int]]:
    """So many conversations, each with how often it was taken before; all are taken once before any is taken twice."""
    order = _order(examples, seed, name)
    if not order:
        return []
    return [(examples[order[place % len(order)]], place // len(order)) for place in range(count)]


def balanced(examples: Sequence[Example], shares: Mapping[str, float], seed: int) -> list[Example]:
    """The most conversations whose languages have these shares, in the order they had. Languages without a share: none.

    Raises ValueError for a language with a share that no conversation has.
    """
    has = Counter(example.language for example in examples)
    if missing := [language for language, part in shares.items() if part > 0 and not has[language]]:
        raise ValueError(f"no conversation is in {missing[0]!r}")
    total = min((has[language] / part for language, part in shares.items() if part > 0), default=0.0)
    room = Counter({language: int(total * part + 1e-9) for language, part in shares.items()})
    kept = set()
    for place in _order(examples, seed, "language"):
        language = examples[place].language
        if room[language] > 0:
            room[language] -= 1
            kept.add(place)
    return [example for place, example in enumerate(examples) if place in kept]


def _order(examples: Sequence[Example], seed: int, purpose: str) -> list[int]:
    return sorted(range(len(examples)), key=lambda place: (number(seed, purpose, examples[place].id), place))
