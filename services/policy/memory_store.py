"""The policy service's store in memory, for tests and simulations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from schemas.policy import Grant, Revocation, Verdict
from schemas.tools import call_key
from services.policy.judging import Counter, Spent
from services.policy.ports import (
    KEEP_S,
    Change,
    Charge,
    Decide,
    Deed,
    Held,
    KeptRevocation,
    PolicyChanged,
    PolicyVersion,
    Standing,
    Subject,
    counts,
)


@dataclass(slots=True)
class _Charged:
    charge: Charge
    counters: frozenset[tuple[str, str]]
    settled: bool = False


@dataclass(slots=True)
class _Tenant:
    versions: list[PolicyVersion] = field(default_factory=list)
    grants: dict[str, Grant] = field(default_factory=dict)
    revocations: dict[str, KeptRevocation] = field(default_factory=dict)
    charges: dict[str, _Charged] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)


class MemoryPolicyStore:
    """PolicyStore in dictionaries; between two awaits nobody else is heard, so that counting is exact."""

    def __init__(self) -> None:
        self._tenants: defaultdict[str, _Tenant] = defaultdict(_Tenant)

    async def standing(self, tenant: str, subject: Subject, now: datetime) -> Standing:
        kept = self._tenants[tenant]
        grants = tuple(each for each in kept.grants.values() if _may_cover(each, subject, now))
        revocations = tuple(each for each in kept.revocations.values() if _may_be_about(each, subject, now))
        return Standing(len(kept.versions), grants, revocations)

    async def policy(self, tenant: str, version: int | None = None) -> PolicyVersion | None:
        versions = self._tenants[tenant].versions
        number = len(versions) if version is None else version
        return versions[number - 1] if 0 < number <= len(versions) else None

    async def versions(self, tenant: str, limit: int) -> list[PolicyVersion]:
        return self._tenants[tenant].versions[::-1][:limit]

    async def set_policy(self, tenant: str, wanted: PolicyVersion, expected: int | None) -> PolicyVersion:
        versions = self._tenants[tenant].versions
        if expected is not None and expected != len(versions):
            raise changed_meanwhile(expected, len(versions))
        if versions and versions[-1].hash == wanted.hash:
            return versions[-1]
        put = wanted.model_copy(update={"version": len(versions) + 1})
        versions.append(put)
        assert put.at is not None
        self._changed(tenant, put.at, put.by, "set_policy", str(put.version), put.note)
        return put

    async def keep_grant(self, grant: Grant) -> None:
        grants = self._tenants[grant.tenant].grants
        if grant.id not in grants:
            grants[grant.id] = grant
            self._changed(grant.tenant, grant.since, grant.by, "keep_grant", grant.id, grant_detail(grant))

    async def grants(self, tenant: str, *, agent: str | None, tool: str | None, all: bool, limit: int) -> list[Grant]:
        found = [
            each for each in self._tenants[tenant].grants.values()
            if agent in (None, each.agent) and tool in (None, each.tool) and (all or each.revoked is None)
        ]  # fmt: skip
        return sorted(found, key=lambda each: (each.since, each.id), reverse=True)[:limit]

    async def revoke_grant(self, tenant: str, id: str, by: str, now: datetime) -> Grant | None:
        grants = self._tenants[tenant].grants
        if id in grants and grants[id].revoked is None:
            grants[id] = grants[id].model_copy(update={"revoked": now, "revoked_by": by})
            self._changed(tenant, now, by, "revoke_grant", id, grant_detail(grants[id]))
        return grants.get(id)

    async def revoke(self, revocation: Revocation) -> None:
        kept = self._tenants[revocation.tenant].revocations
        if revocation.id not in kept:
            kept[revocation.id] = KeptRevocation.model_validate(revocation.model_dump())
            detail = revocation_detail(revocation)
            self._changed(revocation.tenant, revocation.since, revocation.by, "revoke", revocation.id, detail)

    async def lift(self, tenant: str, id: str, by: str, now: datetime) -> KeptRevocation | None:
        kept = self._tenants[tenant].revocations
        if id in kept and kept[id].lifted is None:
            kept[id] = kept[id].model_copy(update={"lifted": now, "lifted_by": by})
            self._changed(tenant, now, by, "lift", id, revocation_detail(kept[id]))
        return kept.get(id)

    async def revocations(self, tenant: str, now: datetime, *, all: bool, limit: int) -> list[KeptRevocation]:
        found = [each for each in self._tenants[tenant].revocations.values() if all or _in_force(each, now)]
        return sorted(found, key=lambda each: (each.since, each.id), reverse=True)[:limit]

    async def charge(self, tenant: str, charge: Charge, counters: Sequence[Counter], decide: Decide) -> Verdict:
        charges = self._tenants[tenant].charges
        spent = {each.limit: self._sum(tenant, each.limit, each.bucket, each.since, without=charge.id) for each in counters}
        verdict = decide(spent)
        old = charges.pop(charge.id, None)
        if counts(verdict):
            kept = frozenset((each.limit, each.bucket) for each in counters)
            charges[charge.id] = _Charged(replace(charge, at=old.charge.at) if old else charge, kept)
        for id in [id for id, each in charges.items() if each.charge.at < charge.at - timedelta(seconds=KEEP_S)]:
            del charges[id]
        return verdict

    async def spent(self, tenant: str, since: Mapping[str, datetime]) -> dict[str, dict[str, Spent]]:
        found: dict[str, dict[str, Spent]] = {}
        for limit, moment in since.items():
            buckets = {
                bucket for each in self._tenants[tenant].charges.values() for name, bucket in each.counters
                if name == limit and each.charge.at > moment
            }  # fmt: skip
            found[limit] = {bucket: self._sum(tenant, limit, bucket, moment) for bucket in sorted(buckets)}
        return found

    async def held(self, tenant: str, counters: Sequence[Counter], limit: int) -> list[Held]:
        charges = sorted(self._tenants[tenant].charges.values(), key=lambda each: (each.charge.at, each.charge.id))
        return [
            Held(each.charge.id, each.charge.run, each.charge.call) for each in charges
            if not each.settled and any((c.limit, c.bucket) in each.counters and each.charge.at > c.since for c in counters)
        ][:limit]  # fmt: skip

    async def settle(self, tenant: str, used: Sequence[str], unused: Sequence[str]) -> None:
        charges = self._tenants[tenant].charges
        for id in unused:
            charges.pop(id, None)
        for id in used:
            if id in charges:
                charges[id].settled = True

    async def changes(self, tenant: str, limit: int) -> list[Change]:
        return self._tenants[tenant].changes[::-1][:limit]

    async def forget(self, tenant: str, user: str) -> int:
        kept = self._tenants[tenant]
        grants = [id for id, each in kept.grants.items() if each.by == user]
        bans = [id for id, each in kept.revocations.items() if each.user == user]
        charges = [each for each in kept.charges.values() if each.charge.user == user]
        for id in grants:
            del kept.grants[id]
        for id in bans:
            del kept.revocations[id]
        for each in charges:
            counters = frozenset((limit, "" if bucket == user else bucket) for limit, bucket in each.counters)
            each.charge, each.counters = replace(each.charge, user=""), counters
        return len(grants) + len(bans) + len(charges) + self._forget_author(kept, user)

    def _forget_author(self, kept: _Tenant, user: str) -> int:
        gone = 0
        for place, version in enumerate(kept.versions):
            if version.by == user:
                kept.versions[place], gone = version.model_copy(update={"by": ""}), gone + 1
        for place, change in enumerate(kept.changes):
            if change.by == user or user in change.detail:
                kept.changes[place], gone = change.model_copy(update={"by": "", "detail": ""}), gone + 1
        return gone

    def _sum(self, tenant: str, limit: str, bucket: str, since: datetime, without: str = "") -> Spent:
        counted = [
            each.charge for each in self._tenants[tenant].charges.values()
            if (limit, bucket) in each.counters and each.charge.at > since and each.charge.id != without
        ]  # fmt: skip
        return Spent(len(counted), sum((each.money for each in counted), start=Spent().money))

    def _changed(self, tenant: str, at: datetime, by: str, deed: Deed, subject: str, detail: str) -> None:
        self._tenants[tenant].changes.append(Change(at=at, by=by, deed=deed, subject=subject, detail=detail))


def changed_meanwhile(expected: int, found: int) -> PolicyChanged:
    """The error for rules that are not the ones that were read."""
    return PolicyChanged(
        "The rules have changed since you read them.", why=f"version {found} is in force, you began with {expected}",
        hint="milepost policy show",
    )  # fmt: skip


def grant_detail(grant: Grant) -> str:
    """A grant in one line."""
    return f"{grant.tool} for {grant.agent}, {grant.scope}"


def revocation_detail(revocation: Revocation) -> str:
    """A revocation in one line."""
    said = {name: getattr(revocation, name) for name in ("run", "tool", "agent", "user")}
    about = ", ".join(f"{name} {value}" for name, value in said.items() if value) or "the whole tenant"
    return f"{about}: {revocation.reason}" if revocation.reason else about


def _may_cover(grant: Grant, subject: Subject, now: datetime) -> bool:
    if grant.revoked or (grant.expires and grant.expires <= now) or (grant.tool, grant.agent) != (subject.tool, subject.agent):
        return False
    if grant.scope == "conversation":
        return grant.conversation == subject.conversation
    return call_key(grant.tool, grant.arguments) == subject.arguments


def _may_be_about(kept: KeptRevocation, subject: Subject, now: datetime) -> bool:
    return (
        _in_force(kept, now) and kept.run in (None, *subject.runs) and kept.tool in (None, subject.tool)
        and kept.agent in (None, subject.agent) and kept.user in (None, subject.user)
    )  # fmt: skip


def _in_force(kept: KeptRevocation, now: datetime) -> bool:
    return kept.lifted is None and (kept.until is None or kept.until > now)
