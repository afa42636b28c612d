"""Rights that were taken back, as a host of tools knows them: heard at once, and asked for at its start and now and then."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from pydantic import ValidationError

from runtime.bus import Bus
from runtime.capability import Capability, CapabilityError
from schemas import subjects
from schemas.canonical import canonical, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.policy import Revocation

log = structlog.get_logger("services.tools.revocations")

ASK_S = 2.0
PATIENCE_S = 5.0
REFRESH_S = 30.0
RETRY_S = 0.2
OVERLAP_S = 5.0
MESSAGE_BYTES = 64 * 1024
ANSWER_BYTES = 4 * 1024 * 1024


class Revoked(CapabilityError):
    """The right to this call was taken back."""


@dataclass(slots=True)
class _Tenant:
    """What is revoked of a tenant's rights. heard: what came as a message, and when. known: the policy service has told,
    or did not in time.
    """

    bans: dict[str, Revocation] = field(default_factory=dict)
    heard: dict[str, tuple[float, Revocation]] = field(default_factory=dict)
    known: bool = False
    asked_at: float = float("-inf")
    asking: asyncio.Task[None] | None = None


class Revocations:
    """What is revoked. tenant: whose, `*` for all. patience_s: how long a tenant's first write waits until it is known."""

    def __init__(self, bus: Bus, *, tenant: str = "*", patience_s: float = PATIENCE_S) -> None:
        self._bus, self._tenant, self._patience_s = bus, tenant, patience_s
        self._tenants: dict[str, _Tenant] = defaultdict(_Tenant)

    async def heard(self, subject: str, raw: bytes) -> None:
        """One was made, or lifted: then its end has come."""
        try:
            told = Revocation.model_validate(read_json(raw, limit=MESSAGE_BYTES))
        except (ProtocolError, ValidationError) as error:
            log.warning("a revocation that cannot be read", subject=subject, why=str(error)[:300])
            return
        if subject != subjects.revoke(told.tenant):
            log.warning("a revocation of another tenant", subject=subject, tenant=told.tenant)
        elif self._tenant in ("*", told.tenant):
            of = self._tenants[told.tenant]
            of.bans[told.id], of.heard[told.id] = told, (_now(), told)
            log.info("revocation", id=told.id, tenant=told.tenant, until=told.until, by=told.by, reason=told.reason)

    async def check(self, right: Capability, *, writes: bool, now: datetime) -> None:
        """Raises Revoked. A write waits, for a few seconds after the start, until it is known what is revoked."""
        of = self._tenants[right.tenant]
        self._refresh(right.tenant, of)
        if writes and not of.known and of.asking:
            await asyncio.wait({of.asking})
        for ban in of.bans.values():
            if _covers(ban, right) and (ban.until is None or now < ban.until):
                why = f"{ban.by or 'an operator'} took it from {_whose(ban)}" + (f": {ban.reason}" if ban.reason else "")
                raise Revoked(f"The right to call {right.tool} was taken back.", why=why, hint="milepost policy revocations")

    def _refresh(self, tenant: str, of: _Tenant) -> None:
        """Ask again after a while: a message may have been missed while the connection was away."""
        if (of.asking is None or of.asking.done()) and _now() - of.asked_at >= REFRESH_S:
            of.asked_at = _now()
            of.asking = asyncio.get_running_loop().create_task(self._ask(tenant, of))

    async def _ask(self, tenant: str, of: _Tenant) -> None:
        question, began = subjects.question("policy", "revocations"), _now()
        while True:
            try:
                told = _read(await self._bus.ask(question, canonical({"tenant": tenant}), ASK_S))
                of.heard = {id: each for id, each in of.heard.items() if each[0] > of.asked_at - OVERLAP_S}
                of.bans = {each.id: each for each in told if each.tenant == tenant}
                of.bans |= {id: ban for id, (_, ban) in of.heard.items()}  # the answer may be older than the message
                of.known = True
                return
            except MilepostError as error:
                if of.known or _now() - began >= self._patience_s:
                    log.warning("goes on without knowing what is revoked", tenant=tenant, error=error.what, why=error.why)
                    of.known = True
                    return
                await asyncio.sleep(RETRY_S)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _read(raw: bytes) -> list[Revocation]:
    answer = read_json(raw, limit=ANSWER_BYTES)
    told = answer.get("revocations") if isinstance(answer, Mapping) else answer
    if not isinstance(told, Sequence) or isinstance(told, str):
        raise ProtocolError("The policy service told no revocations.", hint="milepost doctor")
    try:
        return [Revocation.model_validate(each) for each in told]
    except ValidationError as error:
        raise ProtocolError("The policy service told revocations that cannot be read.", why=str(error)[:300]) from error


def _covers(ban: Revocation, right: Capability) -> bool:
    """Everything that it names must be the call's; a run stands for those that were begun in it."""
    return (
        ban.tenant == right.tenant
        and ban.run in (None, right.run, *right.parents)
        and ban.tool in (None, right.tool)
        and ban.agent in (None, right.agent)
        and ban.user in (None, right.user)
    )


def _whose(ban: Revocation) -> str:
    named = (("run", ban.run), ("tool", ban.tool), ("agent", ban.agent), ("user", ban.user))
    return " and ".join(f"{what} {name}" for what, name in named if name) or f"all of tenant {ban.tenant}"
