"""Calls against those that should be made: the right tools, the right arguments.

Action EM is the share of items whose tools are the ones wanted, each as often as it is wanted. Argument F1 is that of
ModelScope-Agent (arXiv 2309.00986, 5.2): of an argument with the right name and a wrong value (a half match, HM) half counts,
of one with both right (a full match, FM) all; R = (HM/2 + FM) / |A|, P = (HM/2 + FM) / |A*|, F1 = 2PR / (P + R), where A are
the arguments wanted and A* those given. Arguments of a call that has no partner of its tool count in |A| or |A*| and match
nothing: a needless call costs precision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.canonical import canonical
from schemas.errors import ProtocolError
from schemas.tools import ToolCall


@dataclass(frozen=True)
class Wanted:
    """A call that should be made. arguments: whether a value is right for each; optional: those that may be left out.

    others: arguments that are not named are neither right nor wrong.
    """

    name: str
    arguments: Mapping[str, Callable[[object], bool]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    others: bool = False


@dataclass(frozen=True)
class Matched:
    """Calls beside wanted ones. full, half: matches of arguments; wanted, given: all arguments of each side.

    tools: whether the right tools were called, as often as wanted; exact: whether all of every call is right, too.
    """

    tools: bool
    exact: bool
    full: int
    half: int
    wanted: int
    given: int

    @property
    def f1(self) -> float:
        """Argument F1 of these calls alone; where neither side has an argument, 1 if the tools are right and 0 if not."""
        if not self.wanted + self.given:
            return float(self.tools)
        return (2 * self.full + self.half) / (self.wanted + self.given)


def wanted_call(call: ToolCall, alike: Callable[[object, object], bool] | None = None) -> Wanted:
    """A call as it should be made, with equal values, or such as `alike(said, wanted)` takes for one."""
    same = alike or same_value

    def check(wanted: object) -> Callable[[object], bool]:
        return lambda said: same(said, wanted)

    return Wanted(call.name, {name: check(value) for name, value in call.arguments.items()})


def same_value(said: object, wanted: object) -> bool:
    """Whether two values are one in JSON: 3 is 3.0, but neither "3" nor true is 1."""
    try:
        return canonical(said) == canonical(wanted)
    except ProtocolError:
        return False


def same_text(said: object, wanted: object) -> bool:
    """Whether two values are one as text, numbers by their value: "3.0" is 3."""
    try:
        return value_text(said) == value_text(wanted)
    except ProtocolError:
        return False


def value_text(value: object) -> str:
    """A value as it is compared: numbers, in a text or not, by their value, a list or an object as JSON."""
    if isinstance(value, str):
        try:
            number = float(value) if len(value) < 40 and "_" not in value else None
        except ValueError:
            return value
        return value if number is None or number - number else canonical(number).decode()
    return canonical(value).decode()


def matched(wanted: Sequence[Wanted], calls: Sequence[ToolCall]) -> Matched:
    """Pair calls with wanted ones of their tool, those that match best first."""
    tools = Counter(each.name for each in wanted) == Counter(call.name for call in calls)
    scores = sorted(
        ((*_matches(one, call), row, column) for row, one in enumerate(wanted) for column, call in enumerate(calls)
         if one.name == call.name),
        key=lambda score: (-score[0], -score[1], score[2], score[3]),
    )  # fmt: skip
    paired: dict[int, int] = {}
    full = half = 0
    for score_full, score_half, row, column in scores:
        if row not in paired and column not in paired.values():
            paired[row] = column
            full, half = full + score_full, half + score_half
    asked = sum(len(_counted(one, calls[paired[row]] if row in paired else None)) for row, one in enumerate(wanted))
    for_column = {column: wanted[row] for row, column in paired.items()}
    given = sum(_given(call, for_column.get(column)) for column, call in enumerate(calls))
    return Matched(tools, tools and full == asked == given, full, half, asked, given)


def _matches(wanted: Wanted, call: ToolCall) -> tuple[int, int]:
    named = [name for name in wanted.arguments if name in call.arguments]
    full = sum(wanted.arguments[name](call.arguments[name]) for name in named)
    return full, len(named) - full


def _given(call: ToolCall, wanted: Wanted | None) -> int:
    return len(call.arguments.keys() & wanted.arguments.keys()) if wanted and wanted.others else len(call.arguments)


def _counted(wanted: Wanted, call: ToolCall | None) -> list[str]:
    """The arguments that count as wanted: all, but those that may be left out and were."""
    given = call.arguments if call else {}
    return [name for name in wanted.arguments if name not in wanted.optional or name in given]


def wrong_turn(wanted: Sequence[Wanted], calls: Sequence[ToolCall], text: str) -> str:
    """Why a turn is wrong where exactly these calls are wanted, or else words; empty if it is right."""
    called = ", ".join(call.name for call in calls)[:200]
    if not wanted:
        return f"called {called}" if calls else "" if text.strip() else "said nothing"
    match = matched(wanted, calls)
    if match.tools:
        return "" if match.exact else f"{match.full} of {match.wanted} arguments, {match.given} given"
    return f"called {called or 'nothing'}"
