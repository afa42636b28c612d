"""A recorded run as a book of answers: what was asked in it, and what was said to each question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from runtime.log import Stored
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
from schemas.events import AnswerCopied, Answered, AnyEvent, ApprovalGranted, Recorded, RunRequested
from schemas.ids import CommandId, RunId
from schemas.sealing import Sealed
from schemas.tools import ToolCall


@dataclass(frozen=True, slots=True)
class Answer:
    """What a log says to one command. fact: with its header; number: its place in the run, from 1."""

    fact: Fact
    body: Recorded
    number: int

    @property
    def command(self) -> AnyCommand:
        """What it answers."""
        return cast("Answered", self.body).command

    @property
    def at(self) -> datetime:
        """When it was said, or would have been if it was copied from another run."""
        return moment_of(self.fact)


class Recording:
    """The answers of one recorded run, each to be taken once: by the very command, or by the first that asks the same."""

    def __init__(self, run: RunId, facts: Iterable[Stored]) -> None:
        self.run = run
        self.facts = tuple(facts)
        self._answers: dict[CommandId, Answer] = {}
        self._same: dict[str, list[CommandId]] | None = None
        for number, stored in enumerate(self.facts, start=1):
            if answer := answer_in(stored.fact, number):
                self._answers[CommandId(stored.fact.slot)] = answer

    @property
    def request(self) -> Fact | None:
        """The fact that began the run; None if it is missing."""
        return next((each.fact for each in self.facts if isinstance(each.fact.body, RunRequested)), None)

    def peek(self, id: CommandId, command: AnyCommand) -> Answer | None:
        """The answer that `take` would give."""
        found = self._answers.get(id)
        if found and found.command == command:
            return found
        alike = self._alike().get(question_of(command), ())
        return next((self._answers[each] for each in alike if each in self._answers), None)

    def take(self, id: CommandId, command: AnyCommand) -> Answer | None:
        """What was said to this command, or to the first one that asked the same and whose answer is still here."""
        found = self.peek(id, command)
        if found:
            del self._answers[CommandId(found.fact.slot)]
        return found

    def _alike(self) -> dict[str, list[CommandId]]:
        if self._same is None:
            self._same = defaultdict(list)
            for id, answer in self._answers.items():
                self._same[question_of(answer.command)].append(id)
        return self._same


def answer_in(fact: Fact, number: int) -> Answer | None:
    """The answer that a fact gives; None if it answers nothing, or ends the run."""
    body = said(fact)
    return Answer(fact, cast("Recorded", body), number) if isinstance(body, Answered) and not body.slot else None


def said(fact: Fact) -> AnyEvent | Sealed:
    """What a fact says; of a copied answer, the answer."""
    return fact.body.answer if isinstance(fact.body, AnswerCopied) else fact.body


def moment_of(fact: Fact) -> datetime:
    """The moment that counts for a fact."""
    return fact.body.at if isinstance(fact.body, AnswerCopied) else fact.time


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
