"""A request begins a run, or goes on with one that waits: for what a tool gave, or for a yes or a no."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from runtime.client import Asked, Client, TooLate, UnfittingAnswer, UnknownRun
from runtime.sealing import Erased
from schemas.agent import AgentSpec
from schemas.canonical import JsonObject
from schemas.commands import AskPerson, RequestApproval
from schemas.ids import CommandId, RunId
from schemas.messages import Message, Output, Sampling
from schemas.runs import ListRuns, RunFilter, RunSummary
from schemas.tools import ToolCard
from services.gateway.answers import Conflict, NotThere
from services.gateway.caller_tools import RESULT
from services.gateway.gateway import Gateway
from services.gateway.openai import words
from services.gateway.openai.course import Approvals, Course
from services.gateway.openai.ids import read_name
from services.gateway.openai.specs import Specs
from services.gateway.openai.spoken import Spoken, Told, Unfit, last_words, results_at_the_end, told
from services.gateway.openai.waiting import Tree, Waiting, read_tree
from services.gateway.principal import Principal
from services.gateway.runs.asking import decision_of, filled

APPROVE = "approve"
"""The tool as which an approval is told to clients that want that."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How the answer is to be. sampling: the fields that the client sets. choice: auto, none, required, or a tool's name.

    parallel: None leaves it to the agent. calls: how many tools may be called at most.
    """

    sampling: JsonObject = field(default_factory=dict)
    tools: tuple[ToolCard, ...] = ()
    choice: str = "auto"
    named: str = ""
    parallel: bool | None = None
    output: Output | None = None
    calls: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request, whichever way it came in. conversation: one that Milepost remembers; before: the run it goes on from."""

    model: str
    spoken: tuple[Spoken, ...]
    shape: Shape = Shape()
    approvals: Approvals = "text"
    conversation: str | None = None
    before: RunId | None = None
    key: str | None = None


async def course_of(gateway: Gateway, specs: Specs, who: Principal, wanted: Wanted) -> Course:
    """Begin what is wanted, or go on with it. Raises Unfit, NotThere, Conflict, NotPermitted, NotAllowed, Unreachable."""
    client = gateway.client(who)
    results = results_at_the_end(wanted.spoken)
    if found := await _resumed(client, who, wanted, results):
        return found
    if lost := next((each for each in results if each.who == "approval"), None):
        raise NotThere(f"Nothing waits for the approval {lost.call[:100]}.", hint="it was answered, or its run has ended")
    if found := await _replied(gateway, client, who, wanted):
        return found
    spec = await specs.named(who.tenant, wanted.model)
    said = told(wanted.spoken)
    request = said if wanted.conversation is None else Told(said.instructions, said.task, _after(said.said))
    conversation = wanted.conversation
    if conversation is not None:
        await _check_own(gateway, who, conversation)
    if wanted.before is not None:
        request, conversation = await _after_run(client, who, request, wanted.before)
    for run in _unanswered(wanted.spoken):
        await _give_up(client, who, run)
    agent = agent_of(spec, request.instructions, wanted.shape)
    brought = brought_of(wanted.shape)
    asked = await client.ask(
        request.task, agent=agent, conversation=conversation, key=wanted.key, said=request.said, brought=brought
    )  # fmt: skip
    if not asked.fresh:
        await _same(client, asked, request, agent.name, brought)
    return Course(client, asked.run, approvals=wanted.approvals)


# --- what answers ---


def agent_of(spec: AgentSpec, instructions: str, shape: Shape) -> AgentSpec:
    """The agent as this request wants it. Raises Unfit where that is more than an agent can be."""
    said = "\n\n".join(text for text in (spec.instructions, instructions) if text)
    update: dict[str, object] = {"instructions": said}
    if shape.sampling:
        update["sampling"] = Sampling.model_validate({**spec.sampling.model_dump(), **shape.sampling})
    manner = spec.manner
    if shape.parallel is not None:
        manner = manner.model_copy(update={"parallel": shape.parallel})
    if shape.choice in ("required", "named"):
        manner = manner.model_copy(update={"calls": "required"})
    if shape.output is not None:
        manner = manner.model_copy(update={"output": shape.output})
    if shape.choice == "named":
        update |= {"tools": (), "tool_k": 0}
    if shape.calls is not None:
        update["budget"] = spec.budget.model_copy(update={"calls": min(shape.calls, spec.budget.calls)})
    if len(said) > 50_000:
        raise Unfit("The instructions are too long.", why=f"{len(said)} characters with the agent's own; 50,000 are the limit")
    return spec.model_copy(update={**update, "manner": manner})


def brought_of(shape: Shape) -> tuple[ToolCard, ...]:
    """The client's tools that the model may call. Raises Unfit."""
    names = [card.name for card in shape.tools]
    if len(set(names)) < len(names):
        raise Unfit("Two tools have the same name.", hint="give each a name of its own")
    if shape.choice == "required" and not names:
        raise Unfit("A tool is to be called, and there is none.", hint="send tools, or tool_choice auto")
    if shape.choice == "named":
        if shape.named not in names:
            raise Unfit(f"There is no tool {shape.named!r} to be called.", hint="tool_choice names one of tools")
        return tuple(card for card in shape.tools if card.name == shape.named)
    return () if shape.choice == "none" else shape.tools


async def _check_own(gateway: Gateway, who: Principal, conversation: str) -> None:
    """Memory tells all that was said in it. Raises NotThere for a conversation of another user."""
    asked = ListRuns(which=RunFilter(tenant=who.tenant, conversation=conversation), limit=1).model_dump(mode="json")
    found = [RunSummary.model_validate(each) for each in await gateway.ask_list("recorder", "runs", asked)]
    if any(run.user != who.user for run in found):
        raise NotThere("There is no such conversation.", why="it is not one of yours", hint="give it a name of its own")


def _after(said: Sequence[Message]) -> tuple[Message, ...]:
    """What came after the task: of what stood before, memory tells."""
    return tuple(message for message in said if message.part is None)


async def _after_run(client: Client, who: Principal, said: Told, before: RunId) -> tuple[Told, str | None]:
    """The request as it follows a run, and its conversation: memory tells of the run, unless its client told it all itself."""
    state = await client.state(before)
    request = state.request
    if request is None or request.user != who.user:
        raise UnknownRun(f"There is no run {before}.")
    await _give_up(client, who, before)
    if not request.said:
        return said, request.conversation
    turn = [Message(role="user", content=request.task, origin="user", part="history")]
    if state.answer:
        turn.append(Message(role="assistant", content=state.answer, origin="model", part="history"))
    told_before = (message.model_copy(update={"part": "history"}) for message in request.said)
    return Told(said.instructions, said.task, (*told_before, *turn, *said.said)), None


async def _same(client: Client, asked: Asked, said: Told, agent: str, brought: tuple[ToolCard, ...]) -> None:
    """Raises Conflict where the key was another request's; the agent may have been changed since."""
    request = (await client.state(asked.run)).request
    now = (client.user, said.task, agent, said.said, brought)
    if request and (request.user, request.task, request.agent.name, request.said, request.brought) != now:
        raise Conflict(
            "This idempotency key belongs to another request.", why=f"it began run {asked.run}", hint="send a key of its own"
        )


def _unanswered(spoken: Sequence[Spoken]) -> set[RunId]:
    """The runs of calls that the client tells of, and of which it says no result."""
    answered = {each.call for each in spoken}
    calls = (call for each in spoken for call in each.calls if call.id not in answered)
    return {name.run for call in calls if (name := read_name("call", call.id))}


async def _give_up(client: Client, who: Principal, run: RunId) -> None:
    """Cancel a run of this user that waits for what they could have answered, and did not."""
    tree = await _own(client, who, run)
    if tree and any(words.may_answer(each, who) for each in tree.waits.all):
        with suppress(TooLate):
            await client.cancel(run, reason="its user talked on")


# --- what goes on ---


async def _own(client: Client, who: Principal, run: RunId) -> Tree | None:
    """A run of this user and what it waits for; None for one that is not theirs, which is as good as none."""
    try:
        tree = await read_tree(client, run)
    except (UnknownRun, Erased):
        return None
    return tree if tree.state.request and tree.state.request.user == who.user else None


async def _resumed(client: Client, who: Principal, wanted: Wanted, results: Sequence[Spoken]) -> Course | None:
    """The run whose calls the last messages answer, if they do; what was answered before is not answered twice."""
    named = [(each, name) for each in results if (name := read_name("call", each.call) or read_name("mcpr", each.call))]
    if not named:
        return None
    run = named[-1][1].run
    tree = await _own(client, who, run)
    if tree is None:
        return None
    last = tree.last_answered([name.mark for _, name in named if name.run == run])
    for each, name in named:
        waiting = tree.waits.marked(name.mark) if name.run == run else None
        if waiting is not None:
            await _answer(client, who, waiting, each)
            last = waiting.id
    return Course(client, run, since=last, approvals=wanted.approvals) if last else None


async def _answer(client: Client, who: Principal, waiting: Waiting, said: Spoken) -> None:
    """Raises Unfit, NotPermitted, NotAllowed."""
    if isinstance(waiting.command, AskPerson):
        with suppress(TooLate):
            await client.answer(waiting.run, waiting.id, {RESULT: said.text})
        return
    decision = decision_of(said.text) if said.approved is None else None
    approved = said.approved if decision is None else decision.approved
    if approved is None:
        raise Unfit("The approval is not answered.", why="its content says neither yes nor no", hint='{"approved": true}')
    await _decide(client, who, waiting, approved, decision.reason if decision else said.text)


async def _decide(client: Client, who: Principal, waiting: Waiting, approved: bool, reason: str) -> None:
    who.must("approve")
    with suppress(TooLate):
        if approved:
            await client.approve(waiting.run, waiting.id)
        else:
            await client.refuse(waiting.run, waiting.id, reason=reason[:2000])


async def _replied(gateway: Gateway, client: Client, who: Principal, wanted: Wanted) -> Course | None:
    """The run that the user's words decide, if the assistant's before them told what waits; else it is given up.

    Whoever talks on has not agreed: what they could have answered themselves is cancelled.
    """
    reply, before = last_words(wanted.spoken)
    named = words.named_in(before)
    tree = await _own(client, who, named[-1].run) if named else None
    if tree is None:
        return None
    run, marks, url = tree.waits.run, [name.mark for name in named], gateway.rules.public_url
    waiting = [each for mark in marks if (each := tree.waits.marked(mark)) and words.was_shown(each, run, who, url, before)]
    mine = [each for each in waiting if words.may_answer(each, who)]
    last: CommandId | None = None
    if mine:
        last = await _said_to(client, who, mine, reply)
    elif not waiting and _decides(reply):
        last = tree.last_answered(marks)
    if last:
        return Course(client, run, since=last, approvals=wanted.approvals)
    if mine:
        with suppress(TooLate):
            await client.cancel(run, reason="its user talked on")
    return None


def _decides(reply: str) -> bool:
    return not reply.lstrip().startswith("{") and decision_of(reply) is not None


async def _said_to(client: Client, who: Principal, waiting: Sequence[Waiting], reply: str) -> CommandId | None:
    """What the reply answered last: a yes or a no answers all approvals that were told, other words a lone question."""
    lone, approvals = waiting[0], [each for each in waiting if isinstance(each.command, RequestApproval)]
    if approvals:
        decision = decision_of(reply) if _decides(reply) else None
        if decision is None:
            return None
        for each in approvals:
            await _decide(client, who, each, decision.approved, decision.reason)
        return approvals[-1].id
    answer = filled(lone.command, reply) if isinstance(lone.command, AskPerson) and len(waiting) == 1 else None
    if answer is None:
        return None
    try:
        with suppress(TooLate):
            await client.answer(lone.run, lone.id, answer.content)
    except UnfittingAnswer:  # so it was none
        return None
    return lone.id
