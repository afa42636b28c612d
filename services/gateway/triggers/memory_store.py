"""Triggers in memory: the twin for tests, whose rules for claims the one in Postgres shares."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.gateway.answers import Conflict
from services.gateway.triggers.store import FIRINGS_KEPT, Claim
from services.gateway.triggers.trigger import Firing, Kept, Outcome

PENDING = timedelta(minutes=2)
"""A pending firing that is older was left by somebody who died: it holds nobody else back."""


def same(claim: Claim, earlier: Sequence[Firing]) -> Firing | None:
    """The firing that the same event made before. earlier: those whose keys are the claim's, or begin with it and an @."""
    if claim.window_s is None:
        return next((each for each in earlier if each.key == claim.key), None)
    since = claim.at - timedelta(seconds=claim.window_s)
    return max((each for each in earlier if each.at > since), key=lambda each: each.at, default=None)


def judged(claim: Claim, last: datetime | None, open_runs: int) -> Firing:
    """What a new event comes to. last: when something was last begun; open_runs: how many have not ended."""
    key = claim.key if claim.window_s is None else f"{claim.key}@{int(claim.at.timestamp() * 1000)}"
    firing = Firing(tenant=claim.tenant, trigger=claim.trigger, key=key, at=claim.at, outcome="pending")
    if last is not None and claim.cooldown_s and (claim.at - last).total_seconds() < claim.cooldown_s:
        why = f"the last run began less than {claim.cooldown_s:g} s before"
    elif claim.at_most is not None and open_runs >= claim.at_most:
        why = f"{open_runs} runs of it are open"
    else:
        return firing
    return firing.model_copy(update={"outcome": "skipped", "why": why})


def changed(kept: Kept) -> Conflict:
    """Somebody else put that version."""
    return Conflict(
        f"Trigger {kept.trigger.name} was changed by somebody else.", why=f"it has a version {kept.version}, or is gone",
        hint="look at it again, and make your change anew",
    )  # fmt: skip


class MemoryTriggerStore:
    """TriggerStore."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Kept] = {}
        self._firings: dict[tuple[str, str, str], Firing] = {}

    async def put(self, kept: Kept) -> None:
        place = kept.tenant, kept.trigger.name
        before = self._kept.get(place)
        if before is not None and before.model_copy(update={"scheduled": None}) == kept.model_copy(update={"scheduled": None}):
            return
        if kept.version != (before.version + 1 if before else 1):
            raise changed(kept)
        self._kept[place] = kept.model_copy(update={"scheduled": before.scheduled if before else None})

    async def get(self, tenant: str, name: str) -> Kept | None:
        return self._kept.get((tenant, name))

    async def triggers(self, tenant: str) -> list[Kept]:
        return [each for place, each in sorted(self._kept.items()) if place[0] == tenant]

    async def watched(self) -> list[Kept]:
        found = sorted(self._kept.items())
        return [each for _, each in found if each.trigger.enabled and each.trigger.source.kind in ("cron", "subject")]

    async def remove(self, tenant: str, name: str) -> bool:
        for place in [each for each in self._firings if each[:2] == (tenant, name)]:
            del self._firings[place]
        return self._kept.pop((tenant, name), None) is not None

    async def scheduled(self, tenant: str, name: str, moment: datetime) -> None:
        if (before := self._kept.get((tenant, name))) is not None:
            self._kept[tenant, name] = before.model_copy(update={"scheduled": moment})

    async def claim(self, claim: Claim) -> Firing:
        mine = self._of(claim.tenant, claim.trigger)
        keyed = [each for each in mine if each.key == claim.key or each.key.startswith(f"{claim.key}@")]
        before = same(claim, keyed)
        if before is not None:
            return before
        begun = [
            each for each in mine if each.outcome == "begun" or (each.outcome == "pending" and each.at > claim.at - PENDING)
        ]
        open_runs = sum(not each.ended for each in begun)
        firing = judged(claim, max((each.at for each in begun), default=None), open_runs)
        self._firings[claim.tenant, claim.trigger, firing.key] = firing
        for old in self._of(claim.tenant, claim.trigger)[FIRINGS_KEPT:]:
            del self._firings[old.tenant, old.trigger, old.key]
        return firing

    async def settle(self, firing: Firing, outcome: Outcome, run: str | None = None, why: str = "") -> Firing:
        settled = firing.model_copy(update={"outcome": outcome, "run": run, "why": why})
        self._firings[firing.tenant, firing.trigger, firing.key] = settled
        return settled

    async def open(self, tenant: str, name: str, limit: int = 200) -> list[Firing]:
        found = [each for each in reversed(self._of(tenant, name)) if each.run is not None and not each.ended]
        return found[:limit]

    async def ended(self, tenant: str, name: str, key: str) -> None:
        if (firing := self._firings.get((tenant, name, key))) is not None:
            self._firings[tenant, name, key] = firing.model_copy(update={"ended": True})

    async def firings(self, tenant: str, name: str | None = None, limit: int = 100) -> list[Firing]:
        return self._of(tenant, name)[:limit]

    def _of(self, tenant: str, name: str | None) -> list[Firing]:
        found = [each for each in self._firings.values() if each.tenant == tenant and name in (None, each.trigger)]
        return sorted(found, key=lambda each: (each.at, each.key), reverse=True)
