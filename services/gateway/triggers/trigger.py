"""The one rule type: a clock, a webhook, a subject or an alarm begins a run, with a template, a budget and rules of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from schemas.agent import AgentSpec, Budget
from schemas.ids import Token
from schemas.policy import Rule
from schemas.tools import Value
from services.gateway.triggers import condition, schedule, template

TriggerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,48}$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,127}$")]
"""A variable of the gateway's environment; services.gateway.ports.outside says which ones a tenant may name."""

NOT_HEARD = ("mp", "agents")
LONGEST_SUBJECT = 200


class _Strict(Value):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cron(_Strict):
    """Times of a clock: five fields, or six with seconds first (man 5 crontab). timezone: an IANA name.

    catch_up: of the times that passed while nothing ran: none of them, the last, or all (at most the last 100).
    """

    kind: Literal["cron"] = "cron"
    expression: str = Field(min_length=1, max_length=200)
    timezone: str = Field(default="UTC", max_length=64)
    catch_up: Literal["none", "last", "all"] = "last"

    @model_validator(mode="after")
    def _readable(self) -> Self:
        schedule.check(self.expression, self.timezone)
        return self


class Webhook(_Strict):
    """A request to /hooks/TENANT/NAME that bears a signature.

    scheme: milepost (HMAC over time and body), github, or a token. secret_env: the variable with the secret; without one the
    door derives it. secret_version: another number, another derived secret.
    """

    kind: Literal["webhook"] = "webhook"
    scheme: Literal["milepost", "github", "token"] = "milepost"
    secret_env: EnvironmentName | None = None
    secret_version: int = Field(default=1, ge=1, le=1_000_000)


class Subject(_Strict):
    """Messages under a subject of the bus, `*` and a last `>` as patterns; never one of Milepost's own or of an inbox."""

    kind: Literal["subject"] = "subject"
    pattern: str = Field(min_length=1, max_length=LONGEST_SUBJECT)

    @model_validator(mode="after")
    def _outside(self) -> Self:
        tokens = self.pattern.split(".")
        first = tokens[0]
        if first in (*NOT_HEARD, "*", ">") or first.startswith(("$", "_")):
            raise ValueError(f"the first part of a subject may not be a pattern, nor begin with $ or _, nor be {NOT_HEARD}")
        for place, token in enumerate(tokens):
            ends = token == ">" and place == len(tokens) - 1
            plain = token and not any(sign in token for sign in "*> \t\r\n\0") and token.isprintable()
            if not (ends or token == "*" or plain):
                raise ValueError("a subject is words with dots between them; * stands for a word, a last > for the rest")
        return self


class Alarm(_Strict):
    """An alarm of a monitor, posted to /hooks/TENANT/NAME?token=SECRET (or with the token as a bearer's).

    source: prometheus (Alertmanager), aliyun (CloudMonitor), aws (CloudWatch through SNS, whose signature must be good, too).
    topic: of aws, the ARN of the topic that may speak. states: which states begin a run.
    """

    kind: Literal["alarm"] = "alarm"
    source: Literal["prometheus", "aliyun", "aws"]
    states: tuple[Literal["firing", "resolved", "unknown"], ...] = ("firing",)
    topic: str = Field(default="", max_length=300)
    secret_env: EnvironmentName | None = None
    secret_version: int = Field(default=1, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _one_topic(self) -> Self:
        if (self.source == "aws") != bool(self.topic):
            raise ValueError("an alarm of aws, and no other, names the topic that may speak")
        return self


Source: TypeAlias = Annotated[Cron | Webhook | Subject | Alarm, Field(discriminator="kind")]


class Trigger(_Strict):
    """What begins a run. A person may keep it as YAML.

    when: a JMESPath expression over the payload that must be true. agent: who answers, by name or written out. task: a
    template (services.gateway.triggers.template) over payload, trigger and at. dedupe: a template of a key; the same key, the
    same run. cooldown_s: nothing is begun so long after a run was. budget, policy: in place of the agent's, and before its.
    at_most: runs that may be open at once, and then: skip what comes, or queue it behind them.
    """

    name: TriggerName
    description: str = Field(default="", max_length=500)
    source: Source
    when: str = Field(default="", max_length=500)
    agent: Token | AgentSpec = "assistant"
    task: str = Field(min_length=1, max_length=10_000)
    dedupe: str = Field(default="", max_length=500)
    cooldown_s: float = Field(default=0.0, ge=0, le=7 * 86400)
    budget: Budget | None = None
    policy: tuple[Rule, ...] = Field(default=(), max_length=50)
    at_most: int = Field(default=10, ge=1, le=100)
    then: Literal["skip", "queue"] = "skip"
    enabled: bool = True

    @model_validator(mode="after")
    def _works(self) -> Self:
        template.check(self.task)
        if self.dedupe:
            template.check(self.dedupe)
        if self.when:
            condition.check(self.when)
        return self

    @property
    def user(self) -> str:
        """In whose name its runs are."""
        return f"trigger-{self.name}"


class Kept(Value):
    """A trigger as it is kept. version: counts its changes; by, at: the last one's; scheduled: a clock's last time."""

    tenant: Token
    version: int = Field(ge=1)
    by: str
    at: datetime
    trigger: Trigger
    scheduled: datetime | None = None


Outcome: TypeAlias = Literal["pending", "begun", "skipped", "failed"]


class Firing(Value):
    """Something that happened, and what came of it. key: what tells it from others; why: there is no run.

    ended: the run was seen to have ended.
    """

    tenant: Token
    trigger: TriggerName
    key: str
    at: datetime
    outcome: Outcome
    run: str | None = None
    why: str = ""
    ended: bool = False
