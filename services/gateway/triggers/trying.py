"""What a trigger would do, said without doing it; and firing one by hand."""

from __future__ import annotations

import secrets
from datetime import datetime

from pydantic import Field

from schemas.canonical import JsonObject, canonical
from schemas.tools import Value
from services.gateway.gateway import Gateway
from services.gateway.triggers import schedule
from services.gateway.triggers.alarms import alarms
from services.gateway.triggers.event import Event, digest_of
from services.gateway.triggers.firing import fire, plan, spec_of
from services.gateway.triggers.trigger import Alarm, Cron, Firing, Kept, Subject, Trigger, Webhook

UPCOMING = 5


class Trial(Value):
    """What an event would lead to. fires: whether the condition holds. said: the builder's own words of the task: they alone
    may name something for a write. key: the same key, the same run. agent, tools: who would answer, with what always at hand.
    """

    fires: bool
    task: str = ""
    said: str = ""
    key: str
    agent: str = ""
    tools: tuple[str, ...] = ()
    user: str
    payload: JsonObject = Field(default_factory=dict)


async def trial(gateway: Gateway, kept: Kept, payload: JsonObject, now: datetime) -> list[Trial]:
    """One for each event of the payload; nothing is begun. Raises BadTemplate, NotThere, ProtocolError."""
    spec = await spec_of(gateway, kept)
    found = []
    for event in sample(kept.trigger, payload, now):
        planned = plan(kept.trigger, event)
        found.append(Trial(
            fires=planned.holds, task=planned.task, said=planned.said, key=planned.key, agent=spec.name, tools=spec.tools,
            user=kept.trigger.user, payload=event.payload,
        ))  # fmt: skip
    return found


def sample(trigger: Trigger, payload: JsonObject, now: datetime) -> list[Event]:
    """The events that a payload stands for, as it would come to this trigger. Raises ProtocolError."""
    source = trigger.source
    match source:
        case Alarm():
            if set(payload) >= {"name", "state", "resource"}:  # in the one form already
                alarm = {"severity": "", "at": "", "starts_at": "", "text": "", "value": "", "labels": {}, **payload}
                return [Event(payload=alarm, key=digest_of(canonical(alarm)), at=now)]
            return alarms(source, payload, now)
        case Cron():
            moment = now.replace(second=0, microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")
            return [Event(payload={"scheduled": moment, **payload}, key=moment, at=now)]
        case Subject():
            said = {"subject": source.pattern, **payload}
            return [Event(payload=said, key=digest_of(canonical(said)), at=now, window_s=0.0)]
        case Webhook():
            return [Event(payload=payload, key=digest_of(canonical(payload)), at=now, window_s=0.0)]


async def fire_by_hand(gateway: Gateway, kept: Kept, payload: JsonObject, by: str) -> list[Firing]:
    """Fire it now, once more than anything else does. Raises what `sample` raises, Unreachable."""
    found = []
    for event in sample(kept.trigger, payload, gateway.clock.now()):
        own = event.model_copy(update={"key": f"by {by} {secrets.token_hex(8)}", "window_s": None})
        plain = kept.model_copy(update={"trigger": kept.trigger.model_copy(update={"dedupe": "", "cooldown_s": 0.0})})
        found.append(await fire(gateway, plain, own))
    return found


def upcoming(trigger: Trigger, now: datetime) -> list[datetime]:
    """The next times of a clock; none of anything else."""
    source, found = trigger.source, []
    if isinstance(source, Cron):
        for _ in range(UPCOMING):
            try:
                now = schedule.next_after(source.expression, source.timezone, now)
            except StopIteration:
                break
            found.append(now)
    return found
