"""Questions that people ask policy: what holds, what would become of a call, and changes of both, each kept with its author."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import orjson
from pydantic import Field, ValidationError

from runtime.bus import Reply
from runtime.clock import Clock
from schemas import subjects
from schemas.canonical import JsonObject, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import Token
from schemas.policy import Limit, Policy, Revocation, Rule, Verdict
from schemas.tools import Effect, Value
from services.policy.differences import differences
from services.policy.judging import AgentRules, Approval, Spent, counters
from services.policy.matching import Call
from services.policy.material import price_of
from services.policy.ports import PolicyStore, PolicyVersion
from services.policy.validity import BadPolicy, policy_of, rule_faults, warnings
from services.policy.verdicts import NO_POLICY, Judge

QUESTION_BYTES = 1024 * 1024
PAGE_BYTES = 700 * 1024

ValueT = TypeVar("ValueT", bound=Value)
Tell = Callable[[str, bytes], Awaitable[None]]


class UnknownGrant(MilepostError):
    """There is no such standing approval."""


class UnknownRevocation(MilepostError):
    """Nothing was taken back under this id."""


class AskPolicy(Value):
    """A question about the rules. version: one of them; the one in force without."""

    tenant: Token = "default"
    version: int | None = Field(default=None, ge=1, lt=2**31)


class AskSet(Value):
    """Rules to be put in force. expected: the version that they were made from; dry: only say what would change."""

    tenant: Token = "default"
    policy: JsonObject
    by: Token
    note: str = Field(default="", max_length=500)
    expected: int | None = Field(default=None, ge=0, lt=2**31)
    dry: bool = False


class WasSet(Value):
    """The version in force now, what that changed, and what is likely not meant."""

    version: int
    hash: str
    changes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


class AskCheck(Value):
    """A call, as if it were made. policy: instead of the rules in force; at: instead of now; approval, rules: the agent's."""

    tenant: Token = "default"
    tool: str = Field(min_length=1, max_length=64)
    effect: Effect
    lane: str = ""
    arguments: JsonObject = Field(default_factory=dict)
    ungrounded: tuple[str, ...] = ()
    agent: str = ""
    approval: Approval = "writes"
    rules: tuple[Rule, ...] = ()
    user: str = ""
    conversation: str = ""
    price: str | None = None
    currency: str | None = None
    policy: JsonObject | None = None
    at: datetime | None = None


class LimitUse(Value):
    """How much of a limit is used. bucket: whose calls are counted, empty for the whole tenant's; money: in its currency."""

    limit: str
    bucket: str = ""
    writes: int = 0
    of_writes: int | None = None
    money: str = "0"
    of_money: float | None = None
    currency: str | None = None
    window_s: float
    beyond: str


class Checked(Value):
    """What would become of a call, and the limits that count for it."""

    verdict: Verdict
    limits: tuple[LimitUse, ...] = ()


class AskList(Value):
    """A page of a list, newest first. all: also what does not hold any more."""

    tenant: Token = "default"
    agent: str | None = None
    tool: str | None = None
    all: bool = False
    limit: int = Field(default=100, ge=1, le=1000)


class AskRevocations(Value):
    """Rights taken back, newest first. all: also what was lifted or has ended. Hosts of tools ask so at their start."""

    tenant: Token = "default"
    all: bool = False
    limit: int = Field(default=2000, ge=1, le=2000)


class AskId(Value):
    """Something to be changed, by its id, by whom."""

    tenant: Token = "default"
    id: str = Field(min_length=1, max_length=64)
    by: Token


class AskRevoke(Value):
    """Rights to be taken back: all calls that have everything that is named. for_s: seconds until they come back."""

    tenant: Token = "default"
    run: str | None = Field(default=None, min_length=1, max_length=64)
    tool: str | None = Field(default=None, min_length=1, max_length=64)
    agent: Token | None = None
    user: Token | None = None
    by: Token
    reason: str = Field(default="", max_length=500)
    for_s: float | None = Field(default=None, gt=0, le=366 * 86400)


class AskForget(Value):
    """A person who is to be forgotten."""

    tenant: Token
    user: Token


class Questions:
    """The verbs of the policy service. tell: says to every host what was taken back."""

    def __init__(self, store: PolicyStore, clock: Clock, tell: Tell) -> None:
        self._store, self._clock, self._tell = store, clock, tell
        self.answers: dict[str, Reply] = {
            "get_policy": self.get_policy, "set_policy": self.set_policy, "versions": self.versions, "check": self.check,
            "grants": self.grants, "revoke_grant": self.revoke_grant, "revoke": self.revoke, "lift": self.lift,
            "revocations": self.revocations, "spent": self.spent, "history": self.history, "forget": self.forget,
        }  # fmt: skip

    async def get_policy(self, raw: bytes) -> bytes:
        """AskPolicy -> PolicyVersion; version 0 where nobody has set any."""
        asked = _read(AskPolicy, raw)
        found = await self._store.policy(asked.tenant, asked.version)
        if found is None and asked.version is not None:
            raise MilepostError(f"There is no version {asked.version} of the rules.", hint="milepost policy history")
        return _json(found or NO_POLICY)

    async def set_policy(self, raw: bytes) -> bytes:
        """AskSet -> WasSet. Raises BadPolicy, PolicyChanged."""
        asked = _read(AskSet, raw)
        policy = policy_of(asked.policy)
        now = await self._store.policy(asked.tenant) or NO_POLICY
        changes = tuple(differences(now.policy, policy))
        if not asked.dry:
            wanted = PolicyVersion(hash=policy.hash(), policy=policy, by=asked.by, at=self._clock.now(), note=asked.note)
            now = await self._store.set_policy(asked.tenant, wanted, asked.expected)
        told = WasSet(version=now.version, hash=policy.hash(), changes=changes, warnings=tuple(warnings(policy)))
        return _json(told)

    async def versions(self, raw: bytes) -> bytes:
        """AskList (limit) -> PolicyVersion list, newest first; fewer where they would be more than a message holds."""
        asked = _read(AskList, raw)
        return _page(await self._store.versions(asked.tenant, asked.limit))

    async def check(self, raw: bytes) -> bytes:
        """AskCheck -> Checked; nothing is counted or kept. Raises BadPolicy."""
        asked = _read(AskCheck, raw)
        if asked.effect == "read":
            return _json(Checked(verdict=Verdict(outcome="allow", rule="read", why="reads are never asked about")))
        if found := list(rule_faults(asked.rules)):
            raise BadPolicy(found)
        call = Call(
            tool=asked.tool, effect=asked.effect, lane=asked.lane, arguments=asked.arguments, ungrounded=asked.ungrounded,
            agent=asked.agent, user=asked.user, conversation=asked.conversation, priced=asked.price is not None,
            price=price_of(asked.price), currency=asked.currency,
        )  # fmt: skip
        now = asked.at.astimezone(UTC) if asked.at else self._clock.now()
        policy = (
            policy_of(asked.policy)
            if asked.policy is not None
            else (await self._store.policy(asked.tenant) or NO_POLICY).policy
        )
        judge = Judge(self._store, _At(now), trial=policy)
        verdict = await judge.verdict(asked.tenant, AgentRules(asked.approval, asked.rules), call)
        counted = counters(policy, call, now)
        spent = await self._store.spent(asked.tenant, {each.limit: each.since for each in counted})
        limits = [_use(policy, each.limit, each.bucket, spent[each.limit].get(each.bucket, Spent())) for each in counted]
        return _json(Checked(verdict=verdict, limits=tuple(limits)))

    async def grants(self, raw: bytes) -> bytes:
        """AskList -> Grant list, newest first."""
        asked = _read(AskList, raw)
        found = await self._store.grants(asked.tenant, agent=asked.agent, tool=asked.tool, all=asked.all, limit=asked.limit)
        return _page(found)

    async def revoke_grant(self, raw: bytes) -> bytes:
        """AskId -> Grant as it is now. Raises UnknownGrant."""
        asked = _read(AskId, raw)
        found = await self._store.revoke_grant(asked.tenant, asked.id, asked.by, self._clock.now())
        if found is None:
            raise UnknownGrant(f"There is no standing approval {asked.id}.", hint="milepost policy grants")
        return _json(found)

    async def revoke(self, raw: bytes) -> bytes:
        """AskRevoke -> Revocation. It is kept before it is told, so that a host that was away finds it."""
        asked = _read(AskRevoke, raw)
        now = self._clock.now()
        revocation = Revocation(
            id=secrets.token_hex(16), since=now, until=now + timedelta(seconds=asked.for_s) if asked.for_s else None,
            **asked.model_dump(exclude={"for_s"}),
        )  # fmt: skip
        await self._store.revoke(revocation)
        await self._tell(subjects.revoke(asked.tenant), _json(revocation))
        return _json(revocation)

    async def lift(self, raw: bytes) -> bytes:
        """AskId -> KeptRevocation. Hosts hear of it as a revocation that ends now. Raises UnknownRevocation."""
        asked = _read(AskId, raw)
        found = await self._store.lift(asked.tenant, asked.id, asked.by, self._clock.now())
        if found is None:
            raise UnknownRevocation(f"Nothing was taken back under {asked.id}.", hint="milepost policy revocations")
        ended = Revocation.model_validate(found.model_dump()).model_copy(update={"until": found.lifted})
        await self._tell(subjects.revoke(asked.tenant), _json(ended))
        return _json(found)

    async def revocations(self, raw: bytes) -> bytes:
        """AskRevocations -> KeptRevocation list, newest first."""
        asked = _read(AskRevocations, raw)
        return _page(await self._store.revocations(asked.tenant, self._clock.now(), all=asked.all, limit=asked.limit))

    async def spent(self, raw: bytes) -> bytes:
        """AskPolicy -> LimitUse list: each limit in force, for each whose calls it counts."""
        asked = _read(AskPolicy, raw)
        policy, now = (await self._store.policy(asked.tenant) or NO_POLICY).policy, self._clock.now()
        found = await self._store.spent(
            asked.tenant, {limit.name: now - timedelta(seconds=limit.window_s) for limit in policy.limits}
        )
        return _page(
            [_use(policy, limit.name, bucket, each) for limit in policy.limits for bucket, each in _shown(limit, found)]
        )

    async def history(self, raw: bytes) -> bytes:
        """AskList (limit) -> Change list, newest first."""
        asked = _read(AskList, raw)
        return _page(await self._store.changes(asked.tenant, asked.limit))

    async def forget(self, raw: bytes) -> bytes:
        """AskForget -> how many rows lost what they said of the person."""
        asked = _read(AskForget, raw)
        return orjson.dumps({"rows": await self._store.forget(asked.tenant, asked.user)})


class _At:
    """A clock that stands."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self) -> datetime:
        return self._moment


def _shown(limit: Limit, found: Mapping[str, Mapping[str, Spent]]) -> Iterable[tuple[str, Spent]]:
    """Whose calls the limit counts now; what it counted together before it was made to count apart is nobody's any more."""
    whose = found.get(limit.name, {})
    if limit.per == "tenant":
        return [("", whose.get("", Spent()))]
    return [(bucket, each) for bucket, each in whose.items() if bucket]


def _use(policy: Policy, name: str, bucket: str, spent: Spent) -> LimitUse:
    limit = next(each for each in policy.limits if each.name == name)
    return LimitUse(
        limit=name, bucket=bucket, writes=spent.writes, of_writes=limit.writes, money=f"{spent.money.normalize():f}",
        of_money=limit.money, currency=limit.currency, window_s=limit.window_s, beyond=limit.beyond,
    )  # fmt: skip


def _read(kind: type[ValueT], raw: bytes) -> ValueT:
    try:
        return kind.model_validate(read_json(raw, limit=QUESTION_BYTES))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
        raise ProtocolError(f"The question is no {kind.__name__}.", why=faults) from error


def _json(value: Value) -> bytes:
    return value.model_dump_json(by_alias=True).encode()


def _page(values: Sequence[Value]) -> bytes:
    """As many as a message holds, at least one."""
    pieces: list[bytes] = []
    size = 0
    for value in values:
        piece = _json(value)
        size += len(piece) + 1
        if pieces and size > PAGE_BYTES:
            break
        pieces.append(piece)
    return b"[" + b",".join(pieces) + b"]"
