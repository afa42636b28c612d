"""Writes: plan and verdict come side by side; together, and with a person where the rules ask for one, they decide."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from runtime import policy
from runtime.calls import acted, call_tool, earlier, not_done, observe, opened
from runtime.grounding import sources_of, ungrounded
from runtime.spending import beyond, counted, price_of
from runtime.state import Judged, OpenCall, Plan, RunState, changed
from runtime.steps import NOTHING, RECORDED_LANE, Step, call_of, expect, host_of, kept, request_of
from runtime.waiting import clock_goes_on, waited
from schemas.commands import AnyCommand, JudgeCall, KeepGrant, PlanCall, RequestApproval, StartTimer
from schemas.envelope import Fact
from schemas.events import ApprovalGranted, ApprovalRefused, CallJudged, CallPlanned, StepFailed
from schemas.ids import EventId
from schemas.policy import Verdict
from schemas.tools import ToolCall, ToolCard, call_key


def write(state: RunState, call: ToolCall, card: ToolCard) -> Step:
    """Ask what a write would do, and at the same time what the rules make of it; once in a run for the same arguments."""
    known = earlier(state, call)
    if known:
        return observe(state, call, known), NOTHING
    plan = PlanCall(call=call, card_hash=card.hash(), host=host_of(state, card))
    if state.before_4:
        return opened(state, call, card), (plan,)
    budget = request_of(state).agent.budget
    if budget.writes is not None and state.writes >= budget.writes:
        return observe(state, call, _beyond_budget(f"the run may change something {budget.writes} times, and has")), NOTHING
    nowhere = ungrounded(call, card, sources_of(state))
    state = opened(state, call, card)
    state = kept(state, replace(state.open_calls[call.id], ungrounded=nowhere))
    if state.forked:  # what happens nowhere is charged to no limit, so no rules are asked
        return state, (plan,)
    return state, (plan, JudgeCall(call=call, effect=card.effect, tool_lane=card.lane, ungrounded=nowhere))


def planned(state: RunState, fact: Fact) -> Step:
    """What the write would do is known. Before decider 4 the agent's own setting was all there was of rules, as in a fork."""
    event = expect(fact, CallPlanned)
    open_call = replace(state.open_calls[call_of(event.command).id], plan=Plan(event=fact.id, planned=event))
    if state.before_4 or (state.forked and open_call.judged is None):
        open_call = _by_its_agent(state, fact, open_call)
    if state.forked and event.command.host != RECORDED_LANE and not simulates(state):  # it never gets further than this
        return acted(observe(state, open_call.call, only_tried(open_call), fact.id), NOTHING)
    return _decided(state, fact, open_call)


def _by_its_agent(state: RunState, fact: Fact, open_call: OpenCall) -> OpenCall:
    asks = policy.needs_approval(request_of(state).agent, open_call.card)
    verdict = Verdict(outcome="ask" if asks else "allow", rule=policy.AGENT_APPROVAL)
    return replace(open_call, judged=Judged(event=fact.id, verdict=verdict, priced=False))


def judged(state: RunState, fact: Fact) -> Step:
    """What the rules make of the write is known."""
    event = expect(fact, CallJudged)
    verdict = Judged(event=fact.id, verdict=event.verdict, priced=event.command.price is not None)
    return _decided(state, fact, replace(state.open_calls[event.command.call.id], judged=verdict))


def _decided(state: RunState, fact: Fact, open_call: OpenCall) -> Step:
    """Plan and verdict together decide, whichever came first."""
    state, call, plan, found = kept(state, open_call), open_call.call, open_call.plan, open_call.judged
    if plan is None or found is None:
        return state, NOTHING
    verdict, told = found.verdict, (plan.event, found.event)
    if verdict.outcome == "deny":
        return _refuse(state, fact, call, f"The rules do not allow this: {_why(verdict)}; nothing was changed.", *told)
    if verdict.outcome == "dry_run":
        text = f"The rules let this be tried only ({_why(verdict)}); nothing was changed. It would do this: {_shown(plan)}"
        return acted(observe(state, call, text, *told), NOTHING)
    reason = beyond(state, open_call)
    if reason:
        return acted(observe(state, call, _beyond_budget(reason), *told), NOTHING)
    if verdict.price_needed and not found.priced and not state.forked:
        return _judged_again(state, open_call)
    before = plan.planned.before
    if verdict.outcome == "allow" and before is None:
        return _commit(state, open_call)
    if before and verdict.outcome == "allow" and policy.nobody_to_ask(request_of(state).agent, verdict):
        text = f"This was done before, at {before.at} in run {before.run}: {before.text} It was not done again."
        return acted(observe(state, call, text, *told), NOTHING)
    return _asked(state, fact, open_call)


def _judged_again(state: RunState, open_call: OpenCall) -> Step:
    """Limits of money apply: the rules are asked once more, with the price that the plan told."""
    price, currency = price_of(open_call)
    card = open_call.card
    again = JudgeCall(
        call=open_call.call, effect=card.effect, tool_lane=card.lane, ungrounded=open_call.ungrounded,
        price=price, currency=currency,
    )  # fmt: skip
    return kept(state, replace(open_call, judged=None)), (again,)


def _commit(state: RunState, open_call: OpenCall) -> Step:
    if open_call.plan is None:
        raise ValueError("a write without a plan is never committed")
    return counted(kept(state, open_call), open_call), (call_tool(state, open_call),)


# --- a person -----------------------------------------------------------------------------------------


def _asked(state: RunState, fact: Fact, open_call: OpenCall) -> Step:
    """Ask a person, and set the time after which nobody is asked any more."""
    plan, found, request = open_call.plan, open_call.judged, request_of(state)
    if plan is None:
        raise ValueError("nobody is asked about a write without a plan")
    verdict = found.verdict if found else Verdict(outcome="ask")
    expires = fact.time + timedelta(seconds=verdict.expires_s or request.agent.budget.approval_s)
    ask = RequestApproval(
        call=open_call.call, plan=plan.event, expires=expires, why=verdict.why, ungrounded=open_call.ungrounded,
        approval_hash=policy.approval_hash(state.run, open_call.call, plan.planned), before=plan.planned.before,
        approvers=verdict.approvers, not_by=request.user if verdict.four_eyes else None,
    )  # fmt: skip
    state = kept(state, replace(open_call, asked_at=fact.time))
    return state, (ask, StartTimer(at=expires, purpose="approval", about=open_call.call.id))


def granted(state: RunState, fact: Fact) -> Step:
    """A person allowed the write; from somebody who may not, or for something else, it counts as nothing and is asked again."""
    event = expect(fact, ApprovalGranted)
    asked = event.command
    if not isinstance(asked, RequestApproval):
        return state, NOTHING
    fits = event.approval_hash == asked.approval_hash and policy.may_approve(asked, event.by)
    if state.before_4 and (fact.time >= asked.expires or not fits):
        return _refuse(state, fact, asked.call, "The approval was for something else, or came too late.", fact.id)
    if fact.time >= asked.expires:
        return _refuse(state, fact, asked.call, "The approval came too late. Nothing was changed.", fact.id)
    if not fits:
        return state, (asked,)
    open_call = replace(state.open_calls[asked.call.id], approval=fact.id)
    state = waited(kept(state, open_call), fact, asked.call)
    open_call = state.open_calls[asked.call.id]
    if not state.before_4:
        state = changed(state, told=(*state.told, _shown(open_call.plan)))
        reason = beyond(state, open_call)
        if reason:  # another write has spent it in the meantime
            state, commands = acted(observe(state, asked.call, _beyond_budget(reason), fact.id), NOTHING)
            return state, (*commands, *clock_goes_on(state))
    state, commands = _commit(state, open_call)
    return state, (*commands, *_grant(state, fact, event), *clock_goes_on(state))


def _grant(state: RunState, fact: Fact, event: ApprovalGranted) -> tuple[AnyCommand, ...]:
    """A person allowed more than this one call; in a fork, of nothing in the world."""
    asked = event.command
    if event.scope == "once" or state.fork or not isinstance(asked, RequestApproval) or not policy.may_stand(asked):
        return NOTHING
    return (KeepGrant(call=asked.call, scope=event.scope, approval=fact.id, by=event.by),)


def grant_kept(state: RunState, fact: Fact) -> Step:
    """The run does not wait for it."""
    return state, NOTHING


def refused(state: RunState, fact: Fact) -> Step:
    """A person said no."""
    event = expect(fact, ApprovalRefused)
    reason = f": {event.reason}" if event.reason else ""
    if event.reason and not state.before_4:
        state = changed(state, told=(*state.told, event.reason))
    text = f"A person refused this call{reason}. Nothing was changed."
    return _refuse(state, fact, call_of(event.command), text, fact.id)


def expired(state: RunState, fact: Fact, timer: StartTimer) -> Step:
    """Nobody has answered in time, or no timer can say so."""
    waiting = state.asked(RequestApproval)
    asked = {id: ask for id, ask in waiting.items() if (ask.call.id, ask.expires) == (timer.about, timer.at)}
    if not asked:
        return state, NOTHING
    left = {id: command for id, command in state.outstanding.items() if id not in asked}
    call = state.open_calls[timer.about].call
    text = "Nobody approved this call in time. Nothing was changed."
    return _refuse(changed(state, outstanding=left), fact, call, text, fact.id)


def unjudged(state: RunState, fact: Fact, command: JudgeCall) -> Step:
    """Nobody can say what the rules make of it, so it does not happen."""
    event = expect(fact, StepFailed)
    text = f"The rules could not be asked, so nothing was changed. {event.failure.what} {event.failure.why}".rstrip()
    return not_done(state, command, text, fact.id)


def _refuse(state: RunState, fact: Fact, call: ToolCall, text: str, *events: EventId) -> Step:
    asked = state.open_calls[call.id].asked_at is not None
    state = waited(state, fact, call) if asked else state
    state = changed(state, refusals=state.refusals | {call_key(call.name, call.arguments)})
    state, commands = acted(observe(state, call, text, *events), NOTHING)
    return state, (*commands, *(clock_goes_on(state) if asked else NOTHING))


def _beyond_budget(reason: str) -> str:
    return f"The agent's budget does not allow this: {reason}; nothing was changed."


def _why(verdict: Verdict) -> str:
    return verdict.why or (f"rule {verdict.rule}" if verdict.rule else "no reason is given")


def _shown(plan: Plan | None) -> str:
    """A preview in words, as the person saw it."""
    if plan is None:
        return ""
    preview = plan.planned.preview
    rows = (f"{label}: {text}" for label, text in preview.rows)
    price = (f"price: {preview.price} {preview.currency or ''}".rstrip(),) if preview.price else ()
    return "; ".join((preview.summary, *rows, *price))


# --- in a fork ------------------------------------------------------------------------------------------


def unasked(state: RunState, fact: Fact) -> Step:
    """The fork has left the other run: rules that were asked there and had not answered yet are asked no more."""
    about = {each.call.id for each in state.outstanding.values() if isinstance(each, JudgeCall)}
    left = {id: each for id, each in state.outstanding.items() if not isinstance(each, JudgeCall)}
    state, commands = changed(state, outstanding=left), NOTHING
    for open_call in [each for id, each in state.open_calls.items() if id in about and each.plan and not each.judged]:
        state, more = _decided(state, fact, _by_its_agent(state, fact, open_call))
        commands = (*commands, *more)
    return state, commands


def simulates(state: RunState) -> bool:
    """Whether a fork goes on as if its writes had been done."""
    return state.fork is not None and state.fork.writes == "simulated"


def only_tried(open_call: OpenCall) -> str:
    """What the model of a fork is told of a write that its log does not hold."""
    text = "This was not done: the run is a fork of another one, in which nothing is changed."
    return f"{text} It would do this: {_shown(open_call.plan)}" if open_call.plan else text


def simulated(open_call: OpenCall) -> str:
    """As if it had been done."""
    plan = open_call.plan
    done = _shown(plan) if plan else f"The call of {open_call.call.name} was taken as done"
    return f"Done. {done} (simulated in a fork: nothing was changed)"
