"""What the policy service keeps: rules in versions, standing approvals, rights taken back, what was spent, who changed what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from runtime.errors import Permanent
from schemas.canonical import JsonObject
from schemas.ids import Token
from schemas.policy import Grant, Policy, Revocation, Verdict
from schemas.tools import Value, call_key
from services.policy.judging import Counter, Spent

Deed: TypeAlias = Literal["set_policy", "keep_grant", "revoke_grant", "revoke", "lift", "forget"]
KEEP_S = 366 * 86400.0
"""How long charges are kept: the longest window that a limit may have."""


class PolicyChanged(Permanent):
    """Somebody else has changed the rules since they were read."""


class PolicyVersion(Value):
    """The rules of a tenant, as somebody set them. version: from 1, without gaps; 0 is what holds before anybody did."""

    version: int = 0
    hash: str = Field(default_factory=lambda: Policy().hash())
    policy: Policy = Policy()
    by: str = ""
    at: datetime | None = None
    note: str = ""


class Change(Value):
    """A change of what may happen: who, when, what. subject: the version, grant or revocation that it is about."""

    at: datetime
    by: str
    deed: Deed
    subject: str
    detail: str = ""


class KeptRevocation(Revocation):
    """A revocation, and when and by whom it was lifted."""

    lifted: datetime | None = None
    lifted_by: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A call as far as grants and revocations are found by it. arguments: as `call_key` digests them."""

    tool: str
    agent: str
    user: str
    conversation: str
    arguments: str
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What counts for a call at this moment. version: of the tenant's rules; grants, revocations: that may be about it."""

    version: int
    grants: tuple[Grant, ...] = ()
    revocations: tuple[Revocation, ...] = ()


@dataclass(frozen=True, slots=True)
class Charge:
    """A call that is let through as far as the limits go. id: of the JudgeCall, so that judging it again counts once."""

    id: str
    run: str
    call: str
    user: str
    tool: str
    money: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """A charge of which it is not known yet what became of it."""

    id: str
    run: str
    call: str


Decide: TypeAlias = Callable[[Mapping[str, Spent]], Verdict]


class PolicyStore(Protocol):
    """Every call is idempotent, and sees one tenant alone."""

    async def standing(self, tenant: Token, subject: Subject, now: datetime) -> Standing:
        """The version in force, and the grants and revocations that a call is judged by; one question to the database."""
        ...

    async def policy(self, tenant: Token, version: int | None = None) -> PolicyVersion | None:
        """A version of the rules; the one in force without a number. None: there is none."""
        ...

    async def versions(self, tenant: Token, limit: int) -> list[PolicyVersion]:
        """The newest versions, newest first."""
        ...

    async def set_policy(self, tenant: Token, wanted: PolicyVersion, expected: int | None) -> PolicyVersion:
        """Put rules in force; those in force already stay as they are. Its version is counted here.

        Raises PolicyChanged when expected is not the version in force.
        """
        ...

    async def keep_grant(self, grant: Grant) -> None:
        """Keep a standing approval; one that is known, revoked or not, stays as it is."""
        ...

    async def grants(self, tenant: Token, *, agent: str | None, tool: str | None, all: bool, limit: int) -> list[Grant]:
        """Standing approvals, newest first. all: also those that were revoked."""
        ...

    async def revoke_grant(self, tenant: Token, id: str, by: str, now: datetime) -> Grant | None:
        """Take one back; the first time counts. None: it is not known."""
        ...

    async def revoke(self, revocation: Revocation) -> None:
        """Take rights back; a known one stays as it is."""
        ...

    async def lift(self, tenant: Token, id: str, by: str, now: datetime) -> KeptRevocation | None:
        """Give them again; the first time counts. None: it is not known."""
        ...

    async def revocations(self, tenant: Token, now: datetime, *, all: bool, limit: int) -> list[KeptRevocation]:
        """Rights taken back, newest first. all: also what was lifted or has ended."""
        ...

    async def charge(self, tenant: Token, charge: Charge, counters: Sequence[Counter], decide: Decide) -> Verdict:
        """Let decide judge by what is spent, nobody else of the tenant counting meanwhile; keep the charge if it `counts`.

        What is spent is by limit, without this call. A refused call's earlier charge is given back.
        """
        ...

    async def spent(self, tenant: Token, since: Mapping[str, datetime]) -> dict[str, dict[str, Spent]]:
        """What is spent, by limit and bucket, of each limit since a moment."""
        ...

    async def held(self, tenant: Token, counters: Sequence[Counter], limit: int) -> list[Held]:
        """Charges in these counters whose end is not known, the oldest first."""
        ...

    async def settle(self, tenant: Token, used: Sequence[str], unused: Sequence[str]) -> None:
        """Say what became of charges: those that were used stay for good, those that were not are given back."""
        ...

    async def changes(self, tenant: Token, limit: int) -> list[Change]:
        """Who changed what, newest first."""
        ...

    async def forget(self, tenant: Token, user: str) -> int:
        """Drop a person's name, their grants and the arguments in them; how many rows. What was spent stays without it."""
        ...


def counts(verdict: Verdict) -> bool:
    """Whether a call that is judged so is charged: it may happen, and is not judged once more with its price."""
    return verdict.outcome in ("allow", "ask") and not verdict.price_needed


def subject_of(tool: str, arguments: JsonObject, *, agent: str, user: str, conversation: str, runs: tuple[str, ...]) -> Subject:
    """A call as stores look for what is about it."""
    return Subject(tool, agent, user, conversation, call_key(tool, arguments), runs)
