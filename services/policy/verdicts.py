"""The verdict on a call, by what the store says now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial

from runtime.clock import Clock
from runtime.errors import Permanent
from runtime.log import Log
from schemas.policy import Policy, Verdict
from services.policy.judging import AgentRules, Counter, Spent, counters, judge
from services.policy.matching import Call
from services.policy.ports import Charge, Decide, PolicyStore, PolicyVersion, Standing, Subject, subject_of
from services.policy.settling import what_became

CACHED = 256
SETTLED_AT_ONCE = 64
NO_POLICY = PolicyVersion()


class Judge:
    """Judges calls by what the store says now. What is cached is found by its version, which never changes.

    journal: tells what became of calls that were let through; without it every charge stays. trial: rules in place of those
    in force.
    """

    def __init__(self, store: PolicyStore, clock: Clock, journal: Log | None = None, *, trial: Policy | None = None) -> None:
        self._store, self._clock, self._journal = store, clock, journal
        self._trial = PolicyVersion(policy=trial, hash=trial.hash()) if trial else None
        self._versions: dict[tuple[str, int], PolicyVersion] = {}

    async def verdict(self, tenant: str, agent: AgentRules, call: Call, charge: Charge | None = None) -> Verdict:
        """What becomes of a call. charge: counts it where limits apply; without one nothing is counted."""
        now = self._clock.now()
        standing = await self._store.standing(tenant, _subject(call), now)
        version = self._trial or await self.version(tenant, standing.version)
        decide = partial(_decided, version, agent, call, standing, now)
        counted = counters(version.policy, call, now)
        unlimited = decide({})
        if not counted or unlimited.outcome not in ("allow", "ask"):
            return unlimited
        if charge is None:
            return decide(await self._spent(tenant, counted))
        return await self._charged(tenant, charge, counted, decide)

    async def version(self, tenant: str, number: int) -> PolicyVersion:
        """The rules of that version, from the store once."""
        if number == 0:
            return NO_POLICY
        key = (tenant, number)
        if key not in self._versions:
            found = await self._store.policy(tenant, number)
            if found is None:
                raise Permanent(f"Version {number} of the rules of {tenant} is gone.", hint="milepost policy history")
            while len(self._versions) >= CACHED:
                self._versions.pop(next(iter(self._versions)))
            self._versions[key] = found
        return self._versions[key]

    async def _charged(self, tenant: str, charge: Charge, counted: tuple[Counter, ...], decide: Decide) -> Verdict:
        """Before a limit stops a call, what was let through and never happened is given back."""
        verdict = await self._store.charge(tenant, charge, counted, decide)
        if self._journal is None or verdict.rule not in {each.limit for each in counted}:
            return verdict
        held = await self._store.held(tenant, counted, SETTLED_AT_ONCE)
        used, unused = await what_became([each for each in held if each.id != charge.id], self._journal)
        await self._store.settle(tenant, used, unused)
        return await self._store.charge(tenant, charge, counted, decide) if unused else verdict

    async def _spent(self, tenant: str, counted: tuple[Counter, ...]) -> dict[str, Spent]:
        found = await self._store.spent(tenant, {each.limit: each.since for each in counted})
        return {each.limit: found.get(each.limit, {}).get(each.bucket, Spent()) for each in counted}


def _subject(call: Call) -> Subject:
    return subject_of(
        call.tool, dict(call.arguments), agent=call.agent, user=call.user, conversation=call.conversation, runs=call.runs
    )


def _decided(
    version: PolicyVersion, agent: AgentRules, call: Call, standing: Standing, now: datetime, spent: Mapping[str, Spent]
) -> Verdict:
    verdict = judge(version.policy, agent, call, standing.grants, standing.revocations, spent, now)
    return verdict.model_copy(update={"policy": version.hash})
