"""From an event to a run: one and the same however often, and from however many gateways, the event comes.

The run's key is derived from the trigger's name and the event's, so the log itself lets there be one. Its task is the builder's
template; nothing that the event says names a thing for a write (RunRequested.trigger), and every write that no rule lets
through waits for a person, whatever the agent would otherwise do.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime

from runtime.client import UnknownRun
from runtime.errors import Retryable
from runtime.sealing import Erased
from schemas.agent import AgentSpec, Recall
from schemas.errors import MilepostError
from schemas.events import Triggered
from schemas.ids import checked_run
from schemas.tools import Value
from services.gateway.agents.agent import spec_named
from services.gateway.gateway import Gateway
from services.gateway.principal import Principal
from services.gateway.triggers import condition, template
from services.gateway.triggers.event import Event, short_key
from services.gateway.triggers.store import Claim
from services.gateway.triggers.trigger import Firing, Kept, Trigger

_RULES_AT_MOST = 100


class Plan(Value):
    """What an event would lead to. holds: whether the condition is true of it; said: of the task, the builder's words."""

    holds: bool
    key: str
    task: str
    said: str


def plan(trigger: Trigger, event: Event) -> Plan:
    """What the event would lead to; nothing is begun. Raises BadTemplate."""
    values = {"payload": event.payload, "trigger": trigger.name, "at": event.at.isoformat(), "event": event.kind}
    holds = condition.holds(trigger.when, event.payload)
    key = template.key(trigger.dedupe, values) if trigger.dedupe else event.key
    filled = template.render(trigger.task, values) if holds else template.Rendered("", "")
    return Plan(holds=holds, key=short_key(key), task=filled.text, said=filled.said)


async def fire(gateway: Gateway, kept: Kept, event: Event, *, quiet: bool = False) -> Firing:
    """Begin the run of an event, or say why not. quiet: what the condition keeps out is not recorded.

    Raises Unreachable where nothing is certain: the same event may come again.
    """
    trigger, now = kept.trigger, gateway.clock.now()
    try:
        planned = plan(trigger, event)
    except MilepostError as error:
        return await _failed(gateway, kept, await _claim(gateway, kept, event, short_key(event.key), now), error)
    if not planned.holds and quiet:
        return _not_begun(kept, planned.key, now, "its condition does not hold")
    firing = await _claim(gateway, kept, event, planned.key, now)
    if firing.outcome in ("begun", "skipped"):
        return firing
    if not planned.holds:
        return await gateway.triggers.settle(firing, "skipped", why="its condition does not hold")
    return await _begin(gateway, kept, firing, planned)


async def _begin(gateway: Gateway, kept: Kept, firing: Firing, planned: Plan) -> Firing:
    trigger = kept.trigger
    client = gateway.client(Principal(kept.tenant, trigger.user, (), "trigger"))
    try:
        asked = await client.ask(
            planned.task, agent=await spec_of(gateway, kept), conversation=_conversation(trigger, firing.key),
            key=f"trigger:{trigger.name}:{firing.key}", trigger=Triggered(name=trigger.name, said=planned.said),
        )  # fmt: skip
    except Retryable:
        raise
    except MilepostError as error:
        return await _failed(gateway, kept, firing, error)
    return await gateway.triggers.settle(firing, "begun", asked.run)


async def spec_of(gateway: Gateway, kept: Kept) -> AgentSpec:
    """Who answers: the agent, with the trigger's budget and rules before its own, and nothing remembered. Raises NotThere."""
    trigger = kept.trigger
    agent = trigger.agent
    spec = agent if isinstance(agent, AgentSpec) else await spec_named(gateway.agents, kept.tenant, agent, gateway.models)
    budget = trigger.budget or spec.budget
    return spec.model_copy(
        update={
            "budget": budget.model_copy(update={"history_tokens": 0}), "approval": "writes", "when_busy": "queue",
            "policy": (*trigger.policy, *spec.policy)[:_RULES_AT_MOST], "priority": "batch",
            "recall": Recall(similar=0, facts=0, summary=False),
        }
    )  # fmt: skip


def _conversation(trigger: Trigger, key: str) -> str:
    """One for each run; or as many as may be open at once, in which runs wait for their turns."""
    sha = hashlib.sha256(f"{trigger.name} {key}".encode())
    if trigger.then == "queue":
        return f"{trigger.user}-{int.from_bytes(sha.digest()[:4], 'big') % trigger.at_most}"
    return f"t-{sha.hexdigest()[:32]}"


async def _claim(gateway: Gateway, kept: Kept, event: Event, key: str, now: datetime) -> Firing:
    trigger = kept.trigger
    skips = trigger.then == "skip"
    if skips:
        await look_after(gateway, kept)
    window = None if trigger.dedupe else event.window_s
    return await gateway.triggers.claim(Claim(
        tenant=kept.tenant, trigger=trigger.name, key=key, at=now, window_s=window, cooldown_s=trigger.cooldown_s,
        at_most=trigger.at_most if skips else None,
    ))  # fmt: skip


async def look_after(gateway: Gateway, kept: Kept, *, always: bool = False) -> None:
    """Mark which runs of a trigger have ended, once as many seem open as may be."""
    found = await gateway.triggers.open(kept.tenant, kept.trigger.name)
    if len(found) < kept.trigger.at_most and not always:
        return
    client = gateway.client(Principal(kept.tenant, kept.trigger.user, (), "trigger"))
    for firing in found:
        ended = True
        with suppress(UnknownRun, Erased):
            ended = (await client.state(checked_run(firing.run or ""))).phase == "ended"
        if ended:
            await gateway.triggers.ended(kept.tenant, kept.trigger.name, firing.key)


async def _failed(gateway: Gateway, kept: Kept, firing: Firing, error: MilepostError) -> Firing:
    if firing.outcome in ("begun", "skipped"):
        return firing
    why = f"{error.what} {error.why}".strip()
    return await gateway.triggers.settle(firing, "failed", why=why[:1000])


def _not_begun(kept: Kept, key: str, at: datetime, why: str) -> Firing:
    return Firing(tenant=kept.tenant, trigger=kept.trigger.name, key=key, at=at, outcome="skipped", why=why)
