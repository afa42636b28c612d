"""A recorded run as a book of answers: what was asked in it, and what was said to each question."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from runtime.fold import Folded
from runtime.log import Stored
from runtime.state import RunState
from schemas.canonical import canonical, digest
from schemas.commands import (
    AnyCommand,
    AskPerson,
    CallTool,
    Generate,
    JudgeCall,
    KeepGrant,
    PlanCall,
    RequestApproval,
    StartTimer,
)
from schemas.envelope import Fact
from schemas.events import AnswerCopied, Answered, ApprovalGranted, Recorded
from schemas.ids import CommandId, RunId
from schemas.tools import ToolCall


@dataclass(frozen=True, slots=True)
class Answer:
    """What a log says to one command. number: the event's place in its run, from 1; fact: with its header."""

    fact: Fact
    body: Recorded
    number: int

    @property
    def at(self) -> datetime:
        """When it was said, or would have been said if it was copied from another run."""
        said = self.fact.body
        return said.at if isinstance(said, AnswerCopied) else self.fact.time


class Recording:
    """The answers of one recorded run, each given out once: to the very command, or to the first that asks the same."""

    def __init__(self, run: RunId, facts: Iterable[Stored]) -> None:
        self.run = run
        self.facts = tuple(facts)
        self._by_id: dict[CommandId, Answer] = {}
        self._by_question: dict[str, deque[CommandId]] = defaultdict(deque)
        folded = Folded(RunState(run=run))
        for number, stored in enumerate(self.facts, start=1):
            folded.add(stored)
            body = said(stored.fact)
            if isinstance(body, Answered):
                id = CommandId(stored.fact.slot)
                self._by_id[id] = Answer(stored.fact, cast("Recorded", body), number)
                self._by_question[question_of(body.command)].append(id)
        self.state = folded.state

    def peek(self, id: CommandId, command: AnyCommand) -> Answer | None:
        """The answer that `take` would give."""
        found = self._by_id.get(id)
        if found and cast("Answered", found.body).command == command:
            return found
        waiting = self._by_question.get(question_of(command))
        while waiting:
            if answer := self._by_id.get(waiting[0]):
                return answer
            waiting.popleft()
        return None

    def take(self, id: CommandId, command: AnyCommand) -> Answer | None:
        """What was said to this command, or to the first one that asked the same and whose answer is still here."""
        found = self.peek(id, command)
        if found:
            del self._by_id[CommandId(found.fact.slot)]
        return found


def said(fact: Fact) -> object:
    """What a fact says; of a copied answer, the answer."""
    return fact.body.answer if isinstance(fact.body, AnswerCopied) else fact.body


def restated(body: Recorded, command: AnyCommand) -> Recorded:
    """The same answer to another command that asks the same: an approval stays one of what is asked now."""
    if not isinstance(body, Answered):
        return body
    changed: dict[str, object] = {"command": command}
    asked = body.command
    if isinstance(body, ApprovalGranted) and isinstance(asked, RequestApproval) and isinstance(command, RequestApproval):
        as_asked = body.approval_hash == asked.approval_hash
        changed["approval_hash"] = command.approval_hash if as_asked else body.approval_hash
    return body.model_copy(update=changed)


def question_of(command: AnyCommand) -> str:
    """What a command asks, whatever run, step and moment it is asked in.

    Calls are the same if tool and arguments are, generations if their prompts and models are.
    """
    kind = command.kind
    match command:
        case Generate():
            return digest(kind, command.model, command.prompt_hash, command.sampling.hash())
        case PlanCall() | CallTool() | RequestApproval():
            return digest(kind, _call(command.call))
        case JudgeCall():
            return digest(kind, _call(command.call), command.price or "", command.currency or "")
        case AskPerson():
            return digest(kind, _call(command.call), command.question.text)
        case KeepGrant():
            return digest(kind, _call(command.call), command.scope)
        case StartTimer():
            return digest(kind, command.purpose, command.about)
        case _:
            asked = command.model_dump(mode="json", exclude={"deadline", "conversation", "answer_of", "results_of"})
            return digest(kind, canonical(asked))


def _call(call: ToolCall) -> bytes:
    return canonical([call.name, call.arguments])
