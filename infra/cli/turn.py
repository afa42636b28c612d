"""Going through one run with the person at the terminal: follow it, answer its approvals, stop it on ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing, suppress
from typing import Literal, TypeAlias

from infra.cli.keyboard import yes_or_no
from infra.cli.view import View
from runtime.client import Client, TooLate
from runtime.log import Stored
from runtime.speech import Delta, hear_text, read_busy
from runtime.state import Plan, RunState
from schemas import subjects
from schemas.commands import RequestApproval, StartTimer
from schemas.errors import MilepostError
from schemas.ids import CommandId, RunId

STOPPING_S = 2.0

Answers: TypeAlias = Literal["ask", "yes", "no", "leave"]


class Turn:
    """One run as it is followed here. left: the person went away before its end."""

    def __init__(self, client: Client, run: RunId, view: View, answers: Answers) -> None:
        self._client, self._run, self._view, self._answers = client, run, view, answers
        self.state = RunState(run=run)
        self.facts: list[Stored] = []
        self.left = False
        self.interrupted = False
        self._early: list[Delta] = []
        self._prompts: dict[CommandId, asyncio.Task[None]] = {}
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
        self._view.end(self.state, self.facts)
        return self.state

    async def _follow(self) -> None:
        async with aclosing(self._client.follow(self._run)) as updates:  # type: ignore[type-var]  # a generator
            async for update in updates:
                self.state = update.state
                self.facts.append(update.stored)
                open_approvals = update.state.approvals()
                for id, task in self._prompts.items():
                    if id not in open_approvals and not task.done():
                        task.cancel()
                self._view.fact(update)
                self._overtaken()
                for id, request in open_approvals.items():
                    await self._approval(id, request, update.state.plan_of(request))
                if self._answers == "leave" and _only_waits(update.state) and _only_waits(await self._client.state(self._run)):
                    return

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

    # --- approvals ---

    async def _approval(self, id: CommandId, request: RequestApproval, plan: Plan | None) -> None:
        if id in self._prompts:
            return
        self._prompts[id] = asyncio.get_running_loop().create_task(self._decide(id, request, plan))
        if self._answers != "ask":
            await self._prompts[id]

    async def _decide(self, id: CommandId, request: RequestApproval, plan: Plan | None) -> None:
        async with self._one_question:
            if id not in (await self._client.state(self._run)).approvals():
                return  # answered in the meantime
            self._view.card(request, plan)
            answer = {"yes": True, "no": False}.get(self._answers)
            if self._answers == "ask":
                answer = await yes_or_no("Approve?")
                if answer is None:
                    self._leave()
        with suppress(TooLate):  # somebody else answered first: the log tells whom
            if answer is True:
                await self._client.approve(self._run, id)
            elif answer is False:
                await self._client.refuse(self._run, id)

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


def _only_waits(state: RunState) -> bool:
    """Nothing goes on before a person answers."""
    patient = all(isinstance(each, RequestApproval | StartTimer) for each in state.outstanding.values())
    return patient and bool(state.approvals())
