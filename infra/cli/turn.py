"""Going through one run with the person at the terminal: follow it, answer its approvals, stop it on ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Literal, TypeAlias

from infra.cli import questions
from infra.cli.approval import Doubt, doubts_of, effect_of, scopes_of, who_may
from infra.cli.client import short_id
from infra.cli.keyboard import ask_line, choose
from infra.cli.view import View
from infra.cli.words import say
from runtime.children import children_of
from runtime.client import Client, NotAllowed, TooLate, Update
from runtime.log import Stored
from runtime.policy import may_approve
from runtime.speech import Delta, hear_text, read_busy
from runtime.state import OpenCall, RunState
from runtime.tree import follow_tree
from schemas import subjects
from schemas.commands import AskPerson, RequestApproval, StartTimer
from schemas.errors import MilepostError
from schemas.ids import CommandId, RunId
from schemas.policy import Scope

STOPPING_S = 2.0

Answers: TypeAlias = Literal["ask", "yes", "no", "leave"]
_SCOPES: dict[str, Scope] = {"y": "once", "c": "conversation", "a": "always"}


class Turn:
    """One run as it is followed here. yes_to: doubts that "yes" covers. left: the person went away before its end."""

    def __init__(
        self, client: Client, run: RunId, view: View, answers: Answers, yes_to: frozenset[Doubt] = frozenset()
    ) -> None:
        self._client, self._run, self._view, self._answers, self._yes_to = client, run, view, answers, yes_to
        self.state = RunState(run=run)
        self._below: dict[RunId, RunState] = {}
        self.facts: list[Stored] = []
        self.left = False
        self.interrupted = False
        self._early: list[Delta] = []
        self._prompts: dict[CommandId, asyncio.Task[None]] = {}
        self._unanswered: set[CommandId] = set()
        self._one_question = asyncio.Lock()
        self._stopping: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    async def go(self) -> RunState:
        """Follow the run to its end, or to where it waits for an answer that nobody here gives."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        try:
            async with (
                hear_text(self._client.bus, self._client.tenant, self._run, self._delta),
                self._client.bus.hear(subjects.busy(self._client.tenant, self._run, "*"), self._busy),
            ):
                self._following = loop.create_task(self._follow())
                await asyncio.wait({self._following})
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            if self._stopping:
                await asyncio.wait({self._stopping}, timeout=STOPPING_S)  # the wish is to reach the log
            for task in (self._following, self._stopping, *self._prompts.values()):
                if task and not task.done():
                    task.cancel()
        if not self._following.cancelled():
            self._following.result()
        self._view.end(self.state, self.facts, list(self._below.values()))
        return self.state

    @property
    def waits(self) -> bool:
        """Whether the run, or one below it, waits for a person."""
        return self.state.phase != "ended" and bool(_waiting(self._states()))

    def _states(self) -> dict[RunId, RunState]:
        return {self._run: self.state, **self._below}

    async def _follow(self) -> None:
        async with aclosing(follow_tree(self._client, self._run)) as updates:  # type: ignore[type-var]  # a generator
            async for update in updates:
                self._learn(update)
                waiting = _waiting(self._states())
                for id, task in self._prompts.items():
                    if id not in waiting and not task.done():
                        task.cancel()
                self._show(update)
                for id, (asked, state) in waiting.items():
                    await self._waits(id, asked, state)
                if waiting and waiting.keys() <= self._unanswered and await self._nobody_here():
                    return

    def _learn(self, update: Update) -> None:
        if update.state.run == self._run:
            self.state = update.state
            self.facts.append(update.stored)
        else:
            self._below[update.state.run] = update.state

    def _show(self, update: Update) -> None:
        if update.state.run == self._run:
            self._view.fact(update)
            self._overtaken()
        else:
            self._view.below(update)

    async def _nobody_here(self) -> bool:
        """Nothing goes on before somebody answers, and nobody here does."""
        states = self._states()
        if not _only_waits(self._run, states):
            return False
        now = {run: await self._client.state(run) for run in states}
        return _only_waits(self._run, now) and _waiting(now).keys() <= self._unanswered

    def _delta(self, delta: Delta) -> None:
        """Text comes another way than facts: what overtakes the fact that asked for it waits for that fact."""
        if delta.command in self.state.outstanding:
            self._view.delta(delta)
        else:
            self._early.append(delta)

    def _overtaken(self) -> None:
        early, self._early = self._early, []
        for delta in early:
            self._delta(delta)

    async def _busy(self, subject: str, data: bytes) -> None:
        again = read_busy(data, subject.rsplit(".", 1)[-1]).retry_after_s
        self._view.note(f"The model is busy; tried again in {again:.0f} s.")

    # --- approvals and questions ---

    async def _waits(self, id: CommandId, asked: RequestApproval | AskPerson, state: RunState) -> None:
        """Something waits for a person: ask the one who is here, or answer as the command line says."""
        if id in self._prompts or id in self._unanswered:
            return
        if isinstance(asked, AskPerson):
            work = self._question(state.run, id, asked)
        else:
            work = self._decide(state.run, id, asked, state.open_calls.get(asked.call.id))
        self._prompts[id] = asyncio.get_running_loop().create_task(work)
        if self._answers != "ask" or (isinstance(asked, RequestApproval) and not may_approve(asked, self._client.user)):
            await self._prompts[id]

    async def _decide(self, run: RunId, id: CommandId, asked: RequestApproval, open_call: OpenCall | None) -> None:
        async with self._one_question:
            if id not in (await self._client.state(run)).approvals():
                return  # answered in the meantime
            self._view.card(id, asked, open_call)
            answer = await self._answer(run, asked, open_call)
            if answer is None:
                self._unanswered.add(id)
                return
        scope, reason = answer
        try:
            if scope:
                await self._client.approve(run, id, scope=scope)
            else:
                await self._client.refuse(run, id, reason=reason)
        except TooLate:
            return  # somebody else answered first: the log tells whom
        except NotAllowed as error:
            self._unanswered.add(id)
            self._view.note(f"{error.what} {error.hint}")

    async def _answer(self, run: RunId, asked: RequestApproval, open_call: OpenCall | None) -> tuple[Scope | None, str] | None:
        """How far it is approved, or None and why not; None for no answer from here."""
        if self._answers == "no":
            return None, ""
        if not may_approve(asked, self._client.user):
            if self._answers != "leave":
                self._view.note(say("another", who=who_may(asked)))
            return None
        if self._answers == "yes":
            return self._yes(run, asked, open_call)
        return await self._typed(asked, open_call) if self._answers == "ask" else None

    def _yes(self, run: RunId, asked: RequestApproval, open_call: OpenCall | None) -> tuple[Scope | None, str] | None:
        """--yes is for plain approvals, once; what is doubtful must be named by a flag of its own."""
        missing = [doubt for doubt in doubts_of(asked, effect_of(open_call)) if doubt not in self._yes_to]
        if not missing:
            return "once", ""
        flags = " ".join(f"--yes-to {doubt}" for doubt in missing)
        self._view.note(say("not plain", kinds=", ".join(missing), flags=flags, run=short_id(run)))
        return None

    async def _typed(self, asked: RequestApproval, open_call: OpenCall | None) -> tuple[Scope | None, str] | None:
        keys = [*(key for key, scope in _SCOPES.items() if scope in scopes_of(asked)), "n", "d"]
        said = {**{key: say(scope) for key, scope in _SCOPES.items()}, "n": say("no"), "d": say("details")}
        question = f"{' · '.join(said[key] for key in keys)}\n{say('approve?')}"
        while (key := await choose(question, keys, "n")) == "d":
            self._view.details(asked, open_call)
        reason = await ask_line(say("reason?")) if key == "n" else ""
        if key is None or reason is None:
            self._leave()
            return None
        return _SCOPES.get(key), reason.strip()

    async def _question(self, run: RunId, id: CommandId, asked: AskPerson) -> None:
        async with self._one_question:
            if id not in (await self._client.state(run)).questions():
                return
            self._view.question(id, asked)
            if self._answers in ("yes", "leave"):
                self._unanswered.add(id)
                return
            try:
                content = await questions.answered(asked) if self._answers == "ask" else None
            except EOFError:
                self._unanswered.add(id)
                self._leave()
                return
        with suppress(TooLate):
            await self._client.answer(run, id, content)

    # --- ctrl-C ---

    def _interrupt(self) -> None:
        if self._stopping:
            self._leave()
            return
        self.interrupted = True
        self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def _stop(self) -> None:
        try:
            await self._client.cancel(self._run, reason="ctrl-C")
            self._view.note("Asked the run to stop. ctrl-C again leaves it.")
        except TooLate:
            return
        except MilepostError as error:
            self._view.note(f"{error.what} {error.why}")

    def _leave(self) -> None:
        self.left = True
        if self._following:
            self._following.cancel()


_Waiting: TypeAlias = dict[CommandId, tuple[RequestApproval | AskPerson, RunState]]


def _waiting(states: Mapping[RunId, RunState]) -> _Waiting:
    """What these runs ask a person, and which of them it is that asks."""
    found: _Waiting = {}
    for state in states.values():
        found.update({id: (asked, state) for id, asked in state.approvals().items()})
        found.update({id: (asked, state) for id, asked in state.questions().items()})
    return found


def _only_waits(run: RunId, states: Mapping[RunId, RunState]) -> bool:
    """Nothing goes on before a person answers, neither in this run nor in those that it waits for."""
    state = states.get(run)
    if state is None:
        return False
    children = children_of(state)
    for id, command in state.outstanding.items():
        if isinstance(command, RequestApproval | AskPerson | StartTimer):
            continue
        if id not in children or not _only_waits(children[id], states):
            return False
    return bool(state.approvals() or state.questions() or children)
