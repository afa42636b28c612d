"""The policy service: says what the rules make of a write, and keeps what persons allowed for longer."""

from __future__ import annotations

from decimal import Decimal

from runtime.clock import Clock
from runtime.errors import Permanent
from runtime.log import Log
from runtime.service import Context, Service
from schemas.canonical import digest
from schemas.commands import JudgeCall, KeepGrant
from schemas.events import AnyEvent, CallJudged, GrantKept
from schemas.policy import Grant
from services.policy.material import agent_rules, call_of, name_of
from services.policy.ports import Charge, PolicyStore
from services.policy.questions import Questions
from services.policy.verdicts import Judge

ACK_WAIT_S = 3.0  # a verdict takes milliseconds: who says nothing for so long is gone


def policy_service(
    store: PolicyStore, clock: Clock, *, journal: Log | None = None, questions: Questions | None = None
) -> Service:
    """Judges writes and keeps grants. journal: gives back to limits what was let through and never happened."""
    service = Service("policy", "says what may happen without a person", ack_wait_s=ACK_WAIT_S)
    judge = Judge(store, clock, journal)
    for verb, reply in (questions.answers if questions else {}).items():
        service.answer(verb)(reply)

    @service.on(JudgeCall)
    async def judge_call(command: JudgeCall, context: Context) -> AnyEvent:
        if command.effect == "read":
            raise Permanent("A read is not judged.", why="only what changes the world goes by rules")
        call = call_of(command, context.material, context.run)
        charge = Charge(
            id=context.order.id, run=context.run, call=command.call.id, user=call.user,
            tool=call.tool, money=call.price or Decimal(0), at=clock.now(),
        )  # fmt: skip
        verdict = await judge.verdict(context.tenant, agent_rules(context.material.get("agent")), call, charge)
        return CallJudged(command=command, verdict=verdict)

    @service.on(KeepGrant)
    async def keep_grant(command: KeepGrant, context: Context) -> AnyEvent:
        agent = context.material.get("agent")
        grant = Grant(
            id=digest("grant", context.tenant, command.approval), tenant=context.tenant, tool=command.call.name,
            agent=name_of(agent), scope=command.scope, by=command.by, run=context.run, since=clock.now(),
            conversation=context.text("conversation") if command.scope == "conversation" else "",
            arguments=command.call.arguments if command.scope == "always" else {},
        )  # fmt: skip
        await store.keep_grant(grant)
        return GrantKept(command=command, grant=grant.id)

    return service
