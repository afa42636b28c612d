"""What may happen without a person: rules and limits of a tenant or an agent, and what they come to for one call."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, StringConstraints

from schemas.canonical import JsonObject, canonical, digest
from schemas.ids import Token
from schemas.tools import Effect, Grown, Value

Outcome: TypeAlias = Literal["allow", "ask", "dry_run", "deny"]
"""allow: nobody is asked; ask: a person is; dry_run: the plan is shown to the model and never committed; deny: refused."""

Scope: TypeAlias = Literal["once", "conversation", "always"]
"""How far an approval reaches: this call; this tool for the rest of the conversation; always, for these arguments."""

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Clock = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

ANY_TIME = "00:00"


class Hours(Value):
    """Times of the week in a time zone (IANA name); from == to is the whole day, from > to goes past midnight."""

    model_config = ConfigDict(frozen=True, extra="ignore", serialize_by_alias=True)  # `from` is read again as it was written

    zone: str = "UTC"
    days: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    from_: Clock = Field(default=ANY_TIME, alias="from", serialization_alias="from")
    to: Clock = ANY_TIME


class When(Value):
    """Which calls a rule is about; what is not said fits every call.

    tools, lanes, agents, users: shell patterns (`aliyun*`). arguments: by name, a shell pattern over the value as text;
    nested names with dots. ungrounded: whether an argument came from nowhere. hours: inside; outside_hours: outside.
    A condition that is not known is refused, for without it the rule would fit more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tools: tuple[Pattern, ...] = ()
    lanes: tuple[Pattern, ...] = ()
    effects: tuple[Effect, ...] = ()
    agents: tuple[Pattern, ...] = ()
    users: tuple[Pattern, ...] = ()
    arguments: dict[str, Pattern] = Field(default_factory=dict)
    ungrounded: bool | None = None
    hours: Hours | None = None
    outside_hours: Hours | None = None


class Rule(Value):
    """The first rule that fits a call decides. approvers: shell patterns of who may approve; empty: anyone who may at all.

    four_eyes: the person who asked may not approve. expires_s: how long the question waits.
    """

    name: Token
    when: When = When()
    then: Outcome
    why: str = Field(default="", max_length=500)
    approvers: tuple[Pattern, ...] = ()
    four_eyes: bool = False
    expires_s: float | None = Field(default=None, gt=0, le=30 * 86400)


class Limit(Value):
    """How much may happen in a window, counted over the tenant, or apart for each agent, user or tool.

    writes: calls that change the world; money: their prices, in one currency. beyond: what becomes of a call that would
    go beyond it.
    """

    name: Token
    when: When = When()
    per: Literal["tenant", "agent", "user", "tool"] = "tenant"
    window_s: float = Field(gt=0, le=366 * 86400)
    writes: int | None = Field(default=None, ge=0)
    money: float | None = Field(default=None, ge=0)
    currency: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    beyond: Literal["ask", "deny"] = "deny"


class Policy(Value):
    """The rules of a tenant. A call that no rule fits is judged by its agent's own rules, then by its `approval`.

    ungrounded: what becomes of a write with an argument that nobody named, if no rule says so.
    """

    rules: tuple[Rule, ...] = Field(default=(), max_length=500)
    limits: tuple[Limit, ...] = Field(default=(), max_length=100)
    ungrounded: Literal["ask", "deny"] = "ask"

    def hash(self) -> str:
        """Digest over all that it says."""
        return digest("policy", canonical(self.model_dump(mode="json", by_alias=True)))


class Verdict(Value):
    """What the rules came to for one call.

    rule: the name of what decided; policy: hash of the tenant's policy then. grant: the standing approval that made an
    `ask` an `allow`. price_needed: limits of money apply, so the call is judged again once its price is known.
    """

    outcome: Outcome
    rule: str = ""
    why: str = ""
    policy: str = ""
    grant: str | None = None
    approvers: tuple[str, ...] = ()
    four_eyes: bool = False
    expires_s: float | None = None
    price_needed: bool = False


class Grant(Grown):
    """A standing approval: a tool for a conversation, or a tool with these arguments for good; until it is revoked.

    id: derived from the approval that gave it. agent: whose calls it covers.
    """

    id: str
    tenant: Token
    tool: str
    agent: str
    scope: Literal["conversation", "always"]
    conversation: str = ""
    arguments: JsonObject = Field(default_factory=dict)
    by: str
    run: str
    since: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    revoked_by: str | None = None


class Revocation(Value):
    """Rights to call that are taken back at once: of a run, a tool, an agent, a user, or (nothing said) of the whole tenant.

    until: when the ban ends; None: when it is lifted.
    """

    id: Token
    tenant: Token
    run: str | None = None
    tool: str | None = None
    agent: str | None = None
    user: str | None = None
    by: str = ""
    reason: str = ""
    since: datetime
    until: datetime | None = None
