"""Rules, grants, revocations and charges in Postgres: what a call is judged by is one question, what is counted one lock."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, text, update
from sqlalchemy import delete as remove
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres.at_once import at_once
from infra.postgres.engine import transaction
from infra.postgres.tables import policy_changes, policy_charges, policy_grants, policy_revocations, policy_versions
from schemas.policy import Grant, Revocation, Verdict
from schemas.tools import call_key
from services.policy.judging import Counter, Spent
from services.policy.memory_store import changed_meanwhile, grant_detail, revocation_detail
from services.policy.ports import (
    KEEP_S,
    Change,
    Charge,
    Decide,
    Deed,
    Held,
    KeptRevocation,
    PolicyVersion,
    Standing,
    Subject,
    counts,
)

_LOCK = 0x504F4C43  # "POLC": with the tenant's hash, one advisory lock
_MOST = 100  # grants or revocations about one call; any of them is enough

_ALONE = text("SELECT pg_advisory_xact_lock(:lock, hashtext(:tenant))")
_STANDING = """
    SELECT (SELECT max(version) FROM policy_versions WHERE tenant = %(tenant)s) AS version,
    (SELECT json_agg(g) FROM (
        SELECT * FROM policy_grants WHERE tenant = %(tenant)s AND tool = %(tool)s AND agent = %(agent)s
        AND revoked IS NULL AND (expires IS NULL OR expires > %(now)s)
        AND (scope = 'conversation' AND conversation = %(conversation)s OR scope = 'always' AND arguments_key = %(arguments)s)
        ORDER BY since DESC LIMIT %(most)s
    ) AS g) AS grants,
    (SELECT json_agg(r) FROM (
        SELECT * FROM policy_revocations WHERE tenant = %(tenant)s AND lifted IS NULL AND (until IS NULL OR until > %(now)s)
        AND (run IS NULL OR run = ANY(%(runs)s)) AND (tool IS NULL OR tool = %(tool)s)
        AND (agent IS NULL OR agent = %(agent)s) AND ("user" IS NULL OR "user" = %(user)s)
        LIMIT %(most)s
    ) AS r) AS revocations
"""
_COUNTED = """
    unnest(CAST(:limits AS text[]), CAST(:buckets AS text[]), CAST(:since AS timestamptz[])) AS c (limit_name, bucket, since)
    JOIN policy_charges AS p ON p.tenant = :tenant AND p.limit_name = c.limit_name AND p.bucket = c.bucket AND p.at > c.since
"""
_SUMS = text(f"SELECT c.limit_name, count(*), sum(p.money) FROM {_COUNTED} WHERE p.id <> :id GROUP BY c.limit_name")
_HELD = text(f"""
    SELECT DISTINCT p.at, p.id, p.run, p.call FROM {_COUNTED} WHERE NOT p.settled ORDER BY p.at, p.id LIMIT :most
""")
_CHARGE = text("""
    WITH old AS (
        DELETE FROM policy_charges AS p USING unnest(CAST(:limits AS text[]), CAST(:buckets AS text[])) AS c (name, bucket)
        WHERE p.tenant = :tenant AND p.limit_name = c.name AND p.bucket = c.bucket AND p.at < :old
    )
    INSERT INTO policy_charges (tenant, id, limit_name, bucket, run, call, "user", tool, money, at, settled)
    SELECT :tenant, :id, c.name, c.bucket, :run, :call, :user, :tool, :money, :at, false
    FROM unnest(CAST(:limits AS text[]), CAST(:buckets AS text[])) AS c (name, bucket)
    ON CONFLICT (tenant, id, limit_name) DO UPDATE SET money = excluded.money
""")


class PostgresPolicyStore:
    """PolicyStore over the tables policy_*. quick: an engine that does not look first whether a connection is alive."""

    def __init__(self, engine: AsyncEngine, quick: AsyncEngine | None = None) -> None:
        self._engine, self._quick = engine, quick or engine
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def standing(self, tenant: str, subject: Subject, now: datetime) -> Standing:
        asked = {
            "tenant": tenant, "tool": subject.tool, "agent": subject.agent, "user": subject.user, "now": now, "most": _MOST,
            "conversation": subject.conversation, "arguments": subject.arguments, "runs": list(subject.runs),
        }  # fmt: skip
        (found,) = await at_once(self._quick, tenant, _STANDING, asked, durable=False)
        return Standing(
            _number(found["version"]), tuple(Grant.model_validate(each) for each in _list(found["grants"])),
            tuple(Revocation.model_validate(each) for each in _list(found["revocations"])),
        )  # fmt: skip

    # --- rules ---

    async def policy(self, tenant: str, version: int | None = None) -> PolicyVersion | None:
        found = await self._versions(tenant, 1, *([policy_versions.c.version == version] if version is not None else []))
        return found[0] if found else None

    async def versions(self, tenant: str, limit: int) -> list[PolicyVersion]:
        return await self._versions(tenant, limit)

    async def _versions(self, tenant: str, limit: int, *which: ColumnElement[bool]) -> list[PolicyVersion]:
        table = policy_versions.c
        chosen = select(policy_versions).where(table.tenant == tenant, *which).order_by(table.version.desc()).limit(limit)
        async with transaction(self._engine, tenant) as connection:
            return [PolicyVersion.model_validate(row) for row in (await connection.execute(chosen)).mappings()]

    async def set_policy(self, tenant: str, wanted: PolicyVersion, expected: int | None) -> PolicyVersion:
        table = policy_versions.c
        newest = select(policy_versions).where(table.tenant == tenant).order_by(table.version.desc()).limit(1)
        async with transaction(self._engine, tenant) as connection:
            await connection.execute(_ALONE, {"lock": _LOCK, "tenant": tenant})
            found = (await connection.execute(newest)).mappings().first()
            now = PolicyVersion.model_validate(found) if found else PolicyVersion()
            if expected is not None and expected != now.version:
                raise changed_meanwhile(expected, now.version)
            if now.version and now.hash == wanted.hash:
                return now
            put = wanted.model_copy(update={"version": now.version + 1})
            row = put.model_dump(exclude={"policy"}) | {"policy": put.policy.model_dump(mode="json", by_alias=True)}
            await connection.execute(insert(policy_versions).values(tenant=tenant, **row))
            await _changed(connection, tenant, put.at, put.by, "set_policy", str(put.version), put.note)
            return put

    # --- grants ---

    async def keep_grant(self, grant: Grant) -> None:
        row = upsert(policy_grants).values(arguments_key=call_key(grant.tool, grant.arguments), **grant.model_dump())
        once = row.on_conflict_do_nothing().returning(policy_grants.c.id)
        async with transaction(self._engine, grant.tenant) as connection:
            if await connection.scalar(once) is not None:
                detail = grant_detail(grant)
                await _changed(connection, grant.tenant, grant.since, grant.by, "keep_grant", grant.id, detail)

    async def grants(self, tenant: str, *, agent: str | None, tool: str | None, all: bool, limit: int) -> list[Grant]:
        table = policy_grants.c
        which = [table.tenant == tenant]
        which += [table.agent == agent] if agent is not None else []
        which += [table.tool == tool] if tool is not None else []
        which += [] if all else [table.revoked.is_(None)]
        chosen = select(policy_grants).where(*which).order_by(table.since.desc(), table.id.desc()).limit(limit)
        async with transaction(self._engine, tenant) as connection:
            return [Grant.model_validate(row) for row in (await connection.execute(chosen)).mappings()]

    async def revoke_grant(self, tenant: str, id: str, by: str, now: datetime) -> Grant | None:
        table = policy_grants.c
        mine = (table.tenant == tenant, table.id == id)
        change = update(policy_grants).where(*mine, table.revoked.is_(None)).values(revoked=now, revoked_by=by)
        async with transaction(self._engine, tenant) as connection:
            changed = (await connection.execute(change)).rowcount
            found = (await connection.execute(select(policy_grants).where(*mine))).mappings().first()
            grant = Grant.model_validate(found) if found else None
            if grant and changed:
                await _changed(connection, tenant, now, by, "revoke_grant", id, grant_detail(grant))
            return grant

    # --- rights taken back ---

    async def revoke(self, revocation: Revocation) -> None:
        row = upsert(policy_revocations).values(**revocation.model_dump())
        once = row.on_conflict_do_nothing().returning(policy_revocations.c.id)
        async with transaction(self._engine, revocation.tenant) as connection:
            if await connection.scalar(once) is not None:
                tenant, detail = revocation.tenant, revocation_detail(revocation)
                await _changed(connection, tenant, revocation.since, revocation.by, "revoke", revocation.id, detail)

    async def lift(self, tenant: str, id: str, by: str, now: datetime) -> KeptRevocation | None:
        table = policy_revocations.c
        mine = (table.tenant == tenant, table.id == id)
        change = update(policy_revocations).where(*mine, table.lifted.is_(None)).values(lifted=now, lifted_by=by)
        async with transaction(self._engine, tenant) as connection:
            changed = (await connection.execute(change)).rowcount
            found = (await connection.execute(select(policy_revocations).where(*mine))).mappings().first()
            kept = KeptRevocation.model_validate(found) if found else None
            if kept and changed:
                await _changed(connection, tenant, now, by, "lift", id, revocation_detail(kept))
            return kept

    async def revocations(self, tenant: str, now: datetime, *, all: bool, limit: int) -> list[KeptRevocation]:
        table = policy_revocations.c
        holds = and_(table.lifted.is_(None), or_(table.until.is_(None), table.until > now))
        which = (table.tenant == tenant, *(() if all else (holds,)))
        chosen = select(policy_revocations).where(*which).order_by(table.since.desc(), table.id.desc()).limit(limit)
        async with transaction(self._engine, tenant) as connection:
            return [KeptRevocation.model_validate(row) for row in (await connection.execute(chosen)).mappings()]

    # --- what was spent ---

    async def charge(self, tenant: str, charge: Charge, counters: Sequence[Counter], decide: Decide) -> Verdict:
        counted = _counted(tenant, counters)
        # here first, so that of this process one connection alone waits for the lock, and the others go on judging
        async with self._turns[tenant], transaction(self._engine, tenant) as connection:
            await connection.execute(_ALONE, {"lock": _LOCK, "tenant": tenant})
            sums = await connection.execute(_SUMS, counted | {"id": charge.id})  # what was counted before the lock was ours
            verdict = decide({limit: Spent(writes, money) for limit, writes, money in sums})
            if counts(verdict):
                said = {name: getattr(charge, name) for name in ("id", "run", "call", "user", "tool", "money", "at")}
                old = charge.at - timedelta(seconds=KEEP_S)
                del counted["since"]
                await connection.execute(_CHARGE, counted | said | {"old": old})
            else:
                table = policy_charges.c
                await connection.execute(remove(policy_charges).where(table.tenant == tenant, table.id == charge.id))
            return verdict

    async def spent(self, tenant: str, since: Mapping[str, datetime]) -> dict[str, dict[str, Spent]]:
        table, found = policy_charges.c, {limit: dict[str, Spent]() for limit in since}
        if not since:
            return found
        recent = or_(*(and_(table.limit_name == limit, table.at > moment) for limit, moment in since.items()))
        sums = (
            select(table.limit_name, table.bucket, func.count(), func.sum(table.money)).where(table.tenant == tenant, recent)
            .group_by(table.limit_name, table.bucket).order_by(table.limit_name, table.bucket)
        )  # fmt: skip
        async with transaction(self._engine, tenant) as connection:
            for limit, bucket, writes, money in await connection.execute(sums):
                found[limit][bucket] = Spent(writes, Decimal(money))
        return found

    async def held(self, tenant: str, counters: Sequence[Counter], limit: int) -> list[Held]:
        async with transaction(self._engine, tenant) as connection:
            rows = await connection.execute(_HELD, _counted(tenant, counters) | {"most": limit})
            return [Held(id, run, call) for _, id, run, call in rows]

    async def settle(self, tenant: str, used: Sequence[str], unused: Sequence[str]) -> None:
        table = policy_charges.c
        own = table.tenant == tenant
        async with transaction(self._engine, tenant) as connection:
            if used:
                await connection.execute(update(policy_charges).where(own, table.id.in_(used)).values(settled=True))
            if unused:
                await connection.execute(remove(policy_charges).where(own, table.id.in_(unused)))

    # --- who ---

    async def changes(self, tenant: str, limit: int) -> list[Change]:
        table = policy_changes.c
        chosen = select(policy_changes).where(table.tenant == tenant).order_by(table.id.desc()).limit(limit)
        async with transaction(self._engine, tenant) as connection:
            return [Change.model_validate(row) for row in (await connection.execute(chosen)).mappings()]

    async def forget(self, tenant: str, user: str) -> int:
        versions, grants, bans = policy_versions.c, policy_grants.c, policy_revocations.c
        charges, changes = policy_charges.c, policy_changes.c
        steps = (
            remove(policy_grants).where(grants.tenant == tenant, grants.by == user),
            remove(policy_revocations).where(bans.tenant == tenant, bans.user == user),
            update(policy_charges).where(charges.tenant == tenant, charges.user == user, charges.bucket == user)
            .values(user="", bucket=""),
            update(policy_charges).where(charges.tenant == tenant, charges.user == user).values(user=""),
            update(policy_versions).where(versions.tenant == tenant, versions.by == user).values(by=""),
            update(policy_changes)
            .where(changes.tenant == tenant, or_(changes.by == user, func.strpos(changes.detail, user) > 0))
            .values(by="", detail=""),
        )  # fmt: skip
        async with transaction(self._engine, tenant) as connection:
            return sum([(await connection.execute(step)).rowcount for step in steps])


def _counted(tenant: str, counters: Sequence[Counter]) -> dict[str, Any]:
    return {
        "tenant": tenant, "limits": [each.limit for each in counters], "buckets": [each.bucket for each in counters],
        "since": [each.since for each in counters],
    }  # fmt: skip


async def _changed(
    connection: AsyncConnection, tenant: str, at: datetime | None, by: str, deed: Deed, subject: str, detail: str
) -> None:
    row = {"tenant": tenant, "at": at, "by": by, "deed": deed, "subject": subject, "detail": detail}
    await connection.execute(insert(policy_changes).values(**row))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
