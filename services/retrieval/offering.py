"""Which of the tools that were found are offered: a pure ranking by what was found and by how their hosts do.

Scores of different embedders have different floors, so what counts is how far a tool leads the last one that was found. That
lead is multiplied by what each part says, and `why` keeps every factor, so that the order can be explained.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from schemas.events import ScoredCard
from schemas.tools import Effect, ToolCard
from services.retrieval.tool_index import Host

FAILING = 0.5
"""What is left of the lead of a tool whose host fails at every call."""

QUEUE = 64
"""A queue of so many calls halves a lead."""

EFFECTS: Mapping[Effect, float] = {"read": 1.0, "write": 0.98, "destructive": 0.96}
"""Of nearly equal scores the tool that changes less comes first."""


def offering(
    found: Sequence[ScoredCard], hosts: Mapping[str, Host], k: int, *, forbidden: Collection[str] = ()
) -> list[ScoredCard]:
    """The k best that may be offered, best first; equal ones in the order in which they were found.

    hosts: those that answer, by lane; a tool of any other lane, or one that nobody answers for, is not offered.
    forbidden: names that are never offered.
    """
    allowed = [each for each in found if _is_answered(each.card, hosts) and each.card.name not in forbidden]
    return weighed(allowed, hosts)[:k]


def _is_answered(card: ToolCard, hosts: Mapping[str, Host]) -> bool:
    return card.lane in hosts and hosts[card.lane].has(card.name)


def weighed(found: Sequence[ScoredCard], hosts: Mapping[str, Host]) -> list[ScoredCard]:
    """All of them, best first, each with its factors; a tool that no host answers keeps the score it was found with."""
    least = min((each.score for each in found), default=0.0)
    ranked = [_weighed(each, hosts[each.card.lane], least) if each.card.lane in hosts else each for each in found]
    return sorted(ranked, key=lambda each: -each.score)


def _weighed(each: ScoredCard, host: Host, least: float) -> ScoredCard:
    factors = {
        "effect": EFFECTS[each.card.effect],
        "health": 1.0 - (1.0 - FAILING) * host.failing,
        "queue": QUEUE / (QUEUE + host.queue),
    }
    lead = (each.score - least) * math.prod(factors.values())
    return ScoredCard(card=each.card, score=least + lead, why={**each.why, "found": each.score, "least": least, **factors})
