"""What many agreements add up to: rates with the interval in which they likely lie, and sums of what it took."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

from pydantic import Field

from schemas.tools import Value
from services.evaluation.agreement import RISKS, Agreement, Risk
from services.evaluation.course import Spending

Z_95 = 1.959964  # of the standard normal distribution


class Rate(Value):
    """A share of `of` things, and the interval that holds the true one in 95 of 100 cases; None where there is nothing."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    of: int = 0


def wilson(hits: float, of: int) -> Rate:
    """A rate with the score interval of Wilson (1927, https://doi.org/10.1080/01621459.1927.10502953)."""
    if not of:
        return Rate()
    share, spread = hits / of, Z_95**2 / of
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return Rate(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half), of=of)


class Totals(Value):
    """A cohort in figures.

    agreement: runs in which nothing changed but words. actions: Action EM. calls: actions with the same tool and arguments.
    arguments: their F1. answers: mean similarity, over runs with an answer on either side. verdicts: writes ruled the same.
    stopped: runs that went beyond what the log knows; unreached: recorded actions behind that, which were not compared.
    """

    runs: int = 0
    changed: int = 0
    agreement: Rate = Rate()
    actions: Rate = Rate()
    calls: Rate = Rate()
    arguments: float | None = None
    answers: Rate = Rate()
    verdicts: Rate = Rate()
    stopped: int = 0
    unreached: int = 0
    risks: dict[Risk, int] = Field(default_factory=dict)
    tools: dict[str, Rate] = Field(default_factory=dict)
    recorded: Spending = Spending()
    driven: Spending = Spending()


def totals_of(agreements: Iterable[Agreement]) -> Totals:
    """Add them up. Time and tokens are compared over the runs that went to their end on both sides."""
    found = list(agreements)
    counts: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for each in found:
        counts.update(each.matches.model_dump())
        for tool, (all_of, same) in each.tools.items():
            compared[tool] += all_of
            equal[tool] += same
    similar = [each.similarity for each in found if each.similarity is not None]
    risks = Counter(each.risk for each in found)
    whole = [each for each in found if not each.stopped]
    changed = sum(each.changed for each in found)
    return Totals(
        runs=len(found), changed=changed, agreement=wilson(len(found) - changed, len(found)),
        actions=wilson(counts["tools"], counts["actions"]), calls=wilson(counts["calls"], counts["actions"]),
        arguments=_f1(counts), answers=_mean(similar), verdicts=wilson(counts["ruled"], counts["verdicts"]),
        stopped=len(found) - len(whole), unreached=sum(each.unreached for each in found),
        risks={risk: risks[risk] for risk in RISKS if risks[risk]},
        tools={tool: wilson(equal[tool], compared[tool]) for tool in sorted(compared)},
        recorded=_sum(each.recorded for each in whole), driven=_sum(each.driven for each in whole),
    )  # fmt: skip


def _f1(counts: Counter[str]) -> float | None:
    if not counts["recorded"] and not counts["driven"]:
        return None
    return (2 * counts["full"] + counts["half"]) / (counts["recorded"] + counts["driven"])


def _mean(values: list[float]) -> Rate:
    """A mean of values from 0 to 1, with the interval of its standard error."""
    if not values:
        return Rate()
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    half = Z_95 * math.sqrt(variance / len(values))
    return Rate(value=mean, low=max(0.0, mean - half), high=min(1.0, mean + half), of=len(values))


def _sum(parts: Iterable[Spending]) -> Spending:
    found = list(parts)
    money: dict[str, Decimal] = {}
    for each in found:
        for currency, amount in each.money.items():
            money[currency] = money.get(currency, Decimal(0)) + Decimal(amount)
    return Spending(
        generations=sum(each.generations for each in found), tokens=sum(each.tokens for each in found),
        cached=sum(each.cached for each in found), models_s=sum(each.models_s for each in found),
        seconds=sum(each.seconds for each in found), money={currency: f"{money[currency]:f}" for currency in sorted(money)},
    )  # fmt: skip
