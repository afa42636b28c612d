"""Whether a run that was driven again did the same as its recording, and how risky it is where it did not.

Actions are the tool calls that the model asked for. They are aligned so that as few as possible are added, left out or
exchanged for another tool; among those alignments, one with the most equal arguments. Then

- Action EM = pairs of one tool / all pairs and single actions, the measure of ModelScope-Agent (arXiv:2309.00986, 5.2);
- argument F1 = 2PR / (P + R) with R = (FM + HM/2) / |A| and P = (FM + HM/2) / |A*|: A are the recorded arguments, A* those of
  the run that was driven again, FM (full matches) have name and value alike, HM (half matches) the name alone. Of an action
  that has no partner of its tool, all arguments count and none matches. Over many runs the counts are added first.

Values are alike if their canonical JSON is. What a recording did after its counterpart had to stop is not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, get_args

from pydantic import Field

from schemas.canonical import JsonObject, canonical
from schemas.tools import Value
from services.evaluation.course import Action, Course, Ending, Fate, Spending
from services.evaluation.similarity import rouge_l

Risk: TypeAlias = Literal[
    "new_write", "other_write", "lost_write", "verdict", "new_read", "lost_read", "outcome", "unknown", "decisions", "answer",
    "same",
]  # fmt: skip
"""How a run differs, the riskiest first.

new_write: a write that the recording does not have, or that was held back there and is let through. other_write: one with
other arguments. lost_write: one that is not asked for any more. verdict: the rules or a person stop, or let through, something
else. new_read, lost_read: as with writes; other arguments make a new read. outcome: it ends otherwise. unknown: it stopped
where the log knows no answer, with nothing else changed before. decisions: today's code decides otherwise than is recorded.
answer: other words.
"""

RISKS: tuple[Risk, ...] = get_args(Risk)
_HELD: tuple[Fate, ...] = ("refused", "denied", "tried")


class Pair(Value):
    """Two actions that stand for each other; None where one side has none. risk: what this difference alone makes."""

    recorded: Action | None = None
    driven: Action | None = None
    risk: Risk = "same"


class Matches(Value):
    """Counts of compared actions and arguments. actions: pairs and single ones; tools: pairs of one tool; calls: equal ones.

    full, half: arguments alike in name and value, in name alone. recorded, driven: all arguments of each side. verdicts:
    pairs with a verdict on both sides; ruled: those of them with the same.
    """

    actions: int = 0
    tools: int = 0
    calls: int = 0
    full: int = 0
    half: int = 0
    recorded: int = 0
    driven: int = 0
    verdicts: int = 0
    ruled: int = 0


class Answers(Value):
    """The two answers. similarity: ROUGE-L; None where not both runs have come to an end."""

    recorded: str | None = None
    driven: str | None = None
    similarity: float | None = None


class Agreement(Value):
    """How far a run that was driven again agrees with its recording.

    stopped: what it asked for when nobody could answer any more; empty if it went to its end. unreached: recorded actions that
    were not compared for that. tools: by tool, its compared actions and the equal ones among them. differences: pairs that
    are not the same, in order.
    """

    risk: Risk
    matches: Matches
    tools: dict[str, tuple[int, int]] = Field(default_factory=dict)
    unreached: int = 0
    stopped: tuple[str, ...] = ()
    endings: tuple[Ending, Ending]
    similarity: float | None = None
    recorded: Spending
    driven: Spending
    differences: tuple[Pair, ...] = ()
    answers: Answers = Answers()

    @property
    def changed(self) -> bool:
        """Whether anything but the words of the answer differs."""
        return RISKS.index(self.risk) < RISKS.index("answer")


def agreement(recorded: Course, driven: Course, *, stopped: Sequence[str] = (), decided_otherwise: bool = False) -> Agreement:
    """Compare two courses of one run. stopped: kinds of the commands that nobody answered in the driven one.

    decided_otherwise: the driven one has events that its recording lacks, though nothing was swapped.
    """
    halted = tuple(stopped) if driven.ending == "open" and recorded.ending != "open" else ()
    reached = [each for each in recorded.actions if not halted or each.step <= driven.steps]
    pairs = [_judged(*pair) for pair in aligned(reached, driven.actions)]
    answers = _answers(recorded, driven, halted)
    risks: list[Risk] = [each.risk for each in pairs]
    risks += ["outcome"] if not halted and recorded.ending != driven.ending else []
    risks += ["unknown"] if halted else []
    risks += ["decisions"] if decided_otherwise else []
    risks += ["answer"] if answers.similarity is not None and answers.recorded != answers.driven else []
    return Agreement(
        risk=min(risks, key=RISKS.index, default="same"), matches=_matches(pairs), tools=_by_tool(pairs),
        unreached=len(recorded.actions) - len(reached), stopped=halted, endings=(recorded.ending, driven.ending),
        similarity=answers.similarity, recorded=recorded.spending, driven=driven.spending,
        differences=tuple(each for each in pairs if each.risk != "same"), answers=answers,
    )  # fmt: skip


# --- pairs ----------------------------------------------------------------------------------------


def aligned(recorded: Sequence[Action], driven: Sequence[Action]) -> list[tuple[Action | None, Action | None]]:
    """Both sequences side by side, with the least edits; among those, with the fewest pairs whose arguments differ."""
    if len(recorded) == len(driven) and all(map(_same_call, recorded, driven)):
        return list(zip(recorded, driven, strict=True))
    rows, columns = len(recorded) + 1, len(driven) + 1
    cost = [[(row + column, 0) for column in range(columns)] for row in range(rows)]
    for row in range(1, rows):
        for column in range(1, columns):
            cost[row][column] = min(
                _plus(cost[row - 1][column - 1], _exchange(recorded[row - 1], driven[column - 1])),
                _plus(cost[row - 1][column], (1, 0)), _plus(cost[row][column - 1], (1, 0)),
            )  # fmt: skip
    pairs: list[tuple[Action | None, Action | None]] = []
    row, column = rows - 1, columns - 1
    while row or column:
        both = row and column and cost[row][column] == _plus(
            cost[row - 1][column - 1], _exchange(recorded[row - 1], driven[column - 1])
        )  # fmt: skip
        if both:
            row, column = row - 1, column - 1
            pairs.append((recorded[row], driven[column]))
        elif row and cost[row][column] == _plus(cost[row - 1][column], (1, 0)):
            row -= 1
            pairs.append((recorded[row], None))
        else:
            column -= 1
            pairs.append((None, driven[column]))
    return pairs[::-1]


def _plus(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    return first[0] + second[0], first[1] + second[1]


def _exchange(recorded: Action, driven: Action) -> tuple[int, int]:
    return (1, 0) if recorded.tool != driven.tool else (0, int(not _same_call(recorded, driven)))


def _same_call(recorded: Action, driven: Action) -> bool:
    return recorded.tool == driven.tool and _alike(recorded.arguments, driven.arguments)


def _alike(first: object, second: object) -> bool:
    return canonical(first) == canonical(second)  # 1 == True in Python, not in JSON


def _judged(recorded: Action | None, driven: Action | None) -> Pair:
    if recorded and driven and recorded.tool == driven.tool:
        return Pair(recorded=recorded, driven=driven, risk=_risk(recorded, driven))
    found: list[Risk] = ["new_write" if driven.writes else "new_read"] if driven else []
    found += ["lost_write" if recorded.writes else "lost_read"] if recorded else []
    return Pair(recorded=recorded, driven=driven, risk=min(found, key=RISKS.index))


def _risk(recorded: Action, driven: Action) -> Risk:
    """Of two calls of one tool."""
    writes = recorded.writes or driven.writes
    let_through = recorded.fate in _HELD and driven.fate not in (*_HELD, "not done") and driven.verdict != "ask"
    if driven.writes and (let_through or not recorded.writes):
        return "new_write"
    if not _alike(recorded.arguments, driven.arguments):
        return "other_write" if writes else "new_read"
    stopped = {recorded.fate, driven.fate} & set(_HELD) and recorded.fate != driven.fate
    if writes and (recorded.verdict != driven.verdict or stopped):
        return "verdict"
    return "same"


# --- counts ---------------------------------------------------------------------------------------


def _matches(pairs: Iterable[Pair]) -> Matches:
    counts: Counter[str] = Counter()
    for pair in pairs:
        then, now = pair.recorded, pair.driven
        counts["actions"] += 1
        counts["recorded"] += len(then.arguments) if then else 0
        counts["driven"] += len(now.arguments) if now else 0
        if then and now and then.tool == now.tool:
            full = _full(then.arguments, now.arguments)
            counts.update(
                tools=1, calls=int(_same_call(then, now)), full=full,
                half=len(then.arguments.keys() & now.arguments.keys()) - full,
                verdicts=int(bool(then.verdict and now.verdict)),
                ruled=int(bool(then.verdict and then.verdict == now.verdict)),
            )  # fmt: skip
    return Matches(**counts)


def _full(recorded: JsonObject, driven: JsonObject) -> int:
    return sum(_alike(value, driven[name]) for name, value in recorded.items() if name in driven)


def _by_tool(pairs: Iterable[Pair]) -> dict[str, tuple[int, int]]:
    compared: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for pair in pairs:
        for tool in {each.tool for each in (pair.recorded, pair.driven) if each}:
            compared[tool] += 1
            equal[tool] += pair.risk == "same"
    return {tool: (compared[tool], equal[tool]) for tool in sorted(compared)}


def _answers(recorded: Course, driven: Course, halted: Sequence[str]) -> Answers:
    if halted or (recorded.answer is None and driven.answer is None):
        return Answers()
    alike = 0.0
    if recorded.answer is not None and driven.answer is not None:
        alike = rouge_l(driven.answer, recorded.answer)
    return Answers(recorded=recorded.answer, driven=driven.answer, similarity=alike)
