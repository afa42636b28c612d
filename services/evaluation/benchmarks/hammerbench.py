"""HammerBench, its held-back tools: slot filling in conversations on a mobile phone, turn by turn, in English and Chinese.

An item is one turn: a question for what is missing, the call once all is known, or a refusal where no tool fits. A call is
right by the rule of HammerBench's evaluate.py: the tool is the one wanted, no argument is too many, and the arguments are
equal or ROUGE-L F of each is at least ROUGE - over words, in Chinese over characters. Empty arguments count as left out. A
question or a refusal is right if it is words and no call.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from services.datasets.example import Example, Skipped
from services.datasets.sets import data_set
from services.evaluation.benchmark import Benchmark
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.intervals import Measured, rate_of
from services.evaluation.totals import Rate
from services.evaluation.turns import items_of

ROUGE = 0.7
LONGEST = 1_000
"""Characters of an argument that are compared."""

_SMALL = 1e-8  # of the package, so that two texts without a common word are worth 0
_HAN = re.compile(r"([\u4e00-\u9fff])")
_REFUSED = ("IS", "ir_ST_External")  # the kinds of conversations whose last turn is a refusal


@dataclass(frozen=True)
class Turn:
    """Where an item stands. turn: from 1; turns: those of the conversation that are items, a doubled beginning being one."""

    conversation: str
    turn: int
    turns: int
    kind: Literal["call", "question", "refusal"]


class _HammerBench(Benchmark):
    name = "hammerbench"
    title = "HammerBench, tools held back from training: slot filling turn by turn"
    source = "github.com/MadeAgents/HammerBench, evaluate.py and evaluation/metrics.py; arXiv 2412.16516"
    data = "hammerbench"
    parts = ("held-back", "held-back-en", "held-back-zh", "calls", "calls-en", "calls-zh")
    languages = ("en", "zh")

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        language = part.removeprefix("held-back").removeprefix("calls").removeprefix("-")
        found: defaultdict[str, list[Example]] = defaultdict(list)
        for row in data_set("hammerbench").read(folder, "held-back"):
            if isinstance(row, Skipped):
                yield row
            elif language in ("", row.language):
                found[row.id.rpartition("/")[0]].append(row)
        for conversation, examples in found.items():
            for place, example in enumerate(examples, 1):
                turn = _turn(conversation, place, examples)
                if turn.kind == "call" or not part.startswith("calls"):
                    for item in items_of(example, self.name, last=True, group=example.group, source=turn):
                        # The words of a refusal are ours and no reference.
                        yield replace(item, text="") if turn.kind == "refusal" else item

    def wrong(self, item: Item, reply: Reply) -> str:
        if not item.calls:
            return f"called {reply.calls[0].name}" if reply.calls else "" if reply.text.strip() else "said nothing"
        if len(reply.calls) != 1:
            return f"{len(reply.calls)} calls for 1" if reply.calls else "answered"
        (gold,), (call,) = item.calls, reply.calls
        if call.name != gold.name:
            return f"called {call.name} for {gold.name}"
        return wrong_arguments(call.arguments, gold.arguments, item.language)

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        """By kind of turn, and by its place; of calls of the right tool, how many lack or have too many arguments."""
        turn = cast("Turn", item.source)
        right = Measured(float(not self.judge(item, reply)))
        found = {f"{turn.kind}s": right, f"turn_{min(turn.turn, 5)}{'+' if turn.turn > 4 else ''}": right}
        calls = reply.calls if reply.readable else ()
        if not item.calls:
            return found
        named = bool(calls) and calls[0].name == item.calls[0].name
        found["name_accuracy"] = Measured(float(named))
        given = _said(calls[0].arguments).keys() if named else set()
        wanted = _said(item.calls[0].arguments).keys()
        found["missing_parameters"] = Measured(float(named and bool(wanted - given)), float(named))
        found["redundant_parameters"] = Measured(float(bool(given - wanted)), float(named))
        return found

    def figures(self, answered: Sequence[tuple[Item, Reply]]) -> Mapping[str, Rate]:
        """Also how far conversations go: `progress`, the mean share of turns before the first wrong one, and `success`, the
        share that is right throughout; of those conversations all of whose turns were answered.
        """
        turns: defaultdict[str, dict[int, bool]] = defaultdict(dict)
        whole: dict[str, int] = {}
        for item, reply in answered:
            turn = cast("Turn", item.source)
            turns[turn.conversation][turn.turn] = not self.judge(item, reply)
            whole[turn.conversation] = turn.turns
        gone = [_gone(right) for conversation, right in turns.items() if len(right) == whole[conversation]]
        return {
            **super().figures(answered), "progress": rate_of([Measured(share) for share in gone]),
            "success": rate_of([Measured(float(share == 1)) for share in gone]),
        }  # fmt: skip


def wrong_arguments(given: Mapping[str, object], wanted: Mapping[str, object], language: str) -> str:
    """Why arguments are not the wanted ones by HammerBench's rule; empty if they are."""
    said, gold = _said(given), _said(wanted)
    if extra := sorted(said.keys() - gold.keys()):
        return f"{extra[0]} is not wanted"
    for name, value in gold.items():
        if name not in said:
            return f"{name} is missing"
        if said != gold and rouge(said[name], value, language) < ROUGE:
            return f"{name} is {said[name][:200]!r}"
    return ""


def rouge(said: str, wanted: str, language: str) -> float:
    """ROUGE-L F of two arguments as the package `rouge` 1.0.1 computes it, which HammerBench takes: at the level of summaries.

    Sentences end at full stops; the words that any two of them have in common in their order count once, out of the
    different words of each side. Signs at either end do not count, nor does case in English.
    """
    first, second = _sentences(said, language), _sentences(wanted, language)
    if not any(first) or not any(second):
        return float(said == wanted)
    shared = {word for gold in second for given in first for word in _common(gold, given)}
    precision, recall = (len(shared) / len({word for words in side for word in words}) for side in (first, second))
    return 2 * precision * recall / (precision + recall + _SMALL)


def _sentences(text: str, language: str) -> list[list[str]]:
    text = text[:LONGEST]
    plain = _HAN.sub(r" \1 ", text.strip("。！ ")) if language == "zh" else text.strip(".?! ").lower()
    return [" ".join(part.split()).split(" ") for part in plain.split(".") if part]


def _common(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The words of a longest common subsequence; where there are several, that which the package takes."""
    lengths = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for row, one in enumerate(first, 1):
        for column, other in enumerate(second, 1):
            best = max(lengths[row - 1][column], lengths[row][column - 1])
            lengths[row][column] = lengths[row - 1][column - 1] + 1 if one == other else best
    words, row, column = [], len(first), len(second)
    while row and column:
        if first[row - 1] == second[column - 1]:
            row, column = row - 1, column - 1
            words.append(first[row])
        elif lengths[row - 1][column] > lengths[row][column - 1]:
            row -= 1
        else:
            column -= 1
    return words


def _said(arguments: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in arguments.items() if value != ""}


def _turn(conversation: str, place: int, examples: Sequence[Example]) -> Turn:
    example, turns = examples[place - 1], len(examples)
    if example.messages[-1].calls:
        return Turn(conversation, place, turns, "call")
    refused = place == turns and example.group.partition("-")[2] in _REFUSED
    return Turn(conversation, place, turns, "refusal" if refused else "question")


def _gone(right: Mapping[int, bool]) -> float:
    ordered = [right[turn] for turn in sorted(right)]
    return (ordered.index(False) if False in ordered else len(ordered)) / len(ordered)


BENCHMARK = _HammerBench()
