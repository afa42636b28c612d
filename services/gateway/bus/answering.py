"""A prompt's way through a run, for callers who get chunks: text as it comes, questions to their person, signs of life."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial

from runtime.client import Client, TooLate, answer_of
from runtime.policy import may_approve
from runtime.speech import Delta, hear_text
from runtime.state import RunState
from runtime.tree import follow_tree
from schemas.agent import AgentSpec
from schemas.canonical import digest
from schemas.commands import AskPerson, RequestApproval
from schemas.errors import MilepostError
from schemas.ids import CommandId, RunId
from services.gateway.bus.agent_protocol import (
    ACK,
    CONVERSATION,
    PIECE,
    RUN,
    BadPrompt,
    Exchange,
    NoAnswer,
    Prompt,
    Spoken,
    chunk,
    query,
)
from services.gateway.ports.library import Library
from services.gateway.runs.asking import approval_text, decision_of, filled, language_of, question_text, secret_of, unclear

KEEP_S = 20.0
"""Seconds between signs of life: callers give up after 60 without one."""
PASSAGES = 4
"""How many passages of its own documents a prompt is answered with at least."""
TRIES = 5
"""How often a question is put that is not understood."""


class Answering:
    """One prompt, from its run's beginning to its end. client: speaks for the prompt's user."""

    def __init__(self, client: Client, library: Library, exchange: Exchange, *, keep_s: float = KEEP_S) -> None:
        self._client, self._library, self._exchange, self._keep_s = client, library, exchange, keep_s
        self._spoken, self._language = Spoken(), language_of("")
        self._out: asyncio.Queue[str] = asyncio.Queue()
        self._states: dict[RunId, RunState] = {}
        self._asking: dict[CommandId, asyncio.Task[None]] = {}

    async def answer(self, prompt: Prompt, agent: AgentSpec) -> None:
        """Take a prompt through a run of this agent. Raises what the client raises, BadPrompt, and NoAnswer."""
        self._language = language_of(prompt.prompt)
        conversation = prompt.conversation or _conversation(self._client.tenant, prompt.key)
        async with self._alive():
            spec = await self._shelve(prompt, agent, conversation)
            asked = await self._client.ask(prompt.prompt, agent=spec, conversation=conversation, key=prompt.key)
            request = None if asked.fresh else (await self._client.state(asked.run)).request
            begun_in = request.conversation if request else conversation
            await self._exchange.send(ACK, {RUN: asked.run, CONVERSATION: begun_in})
            state = await self._follow(asked.run)
        try:
            await self._send(self._spoken.end(answer_of(state)))
        except MilepostError as error:
            raise NoAnswer(error.what, why=error.why, hint=error.hint) from error

    async def _shelve(self, prompt: Prompt, agent: AgentSpec, conversation: str) -> AgentSpec:
        """Put a prompt's documents where only its conversation looks; the agent, looking there, too. Raises BadPrompt."""
        collection = f"files-{digest('files of a conversation', conversation)[:16]}"
        if prompt.attachments:
            await self._exchange.send(ACK)  # reading them takes its time
        for attachment in prompt.attachments:
            told = self._library.add(self._client.tenant, collection, attachment.filename, attachment.data())
            last = [each async for each in told][-1]
            if last.state not in ("added", "unchanged"):
                raise BadPrompt(f"{attachment.filename} was not taken in.", why=last.why, hint=last.hint)
        if not prompt.attachments and prompt.conversation is None:
            return agent
        passages = max(agent.knowledge_k, PASSAGES) if prompt.attachments else agent.knowledge_k
        return agent.model_copy(update={"collections": (*agent.collections, collection), "knowledge_k": passages})

    # --- signs of life, and text ---

    @asynccontextmanager
    async def _alive(self) -> AsyncIterator[None]:
        """While it is open the caller hears something often enough not to give up."""

        async def keep() -> None:
            while True:
                await asyncio.sleep(self._keep_s)
                with suppress(MilepostError):
                    await self._exchange.send(ACK)

        task = asyncio.get_running_loop().create_task(keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _send(self, text: str) -> None:
        for at in range(0, len(text), PIECE):
            await self._exchange.send(chunk("response", text[at : at + PIECE]))

    @asynccontextmanager
    async def _speaking(self) -> AsyncIterator[None]:
        """While it is open, what is put out is sent in its order; all of it, if nothing goes wrong."""

        async def speak() -> None:
            while True:
                text = await self._out.get()
                with suppress(MilepostError):  # its run goes on all the same
                    await self._send(text)
                self._out.task_done()

        task = asyncio.get_running_loop().create_task(speak())
        try:
            yield
            await self._out.join()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _hear(self, delta: Delta) -> None:
        if new := self._spoken.hear(delta):
            self._out.put_nowait(new)

    # --- the run ---

    async def _follow(self, run: RunId) -> RunState:
        client = self._client
        try:
            async with (
                self._speaking(),
                hear_text(client.bus, client.tenant, run, self._hear),
                aclosing(follow_tree(client, run)) as updates,  # type: ignore[type-var]  # a generator
            ):
                async for update in updates:
                    self._states[update.state.run] = update.state
                    self._ask_what_waits()
        finally:
            for task in self._asking.values():
                task.cancel()
            await asyncio.gather(*self._asking.values(), return_exceptions=True)
        return self._states[run]

    def _ask_what_waits(self) -> None:
        """Ask what this run, or one below it, newly waits for; withdraw what somebody else answered."""
        waiting: dict[CommandId, tuple[RequestApproval | AskPerson, RunState]] = {}
        for state in self._states.values():
            waiting |= {id: (asked, state) for id, asked in state.approvals().items()}
            waiting |= {id: (question, state) for id, question in state.questions().items()}
        for id, task in self._asking.items():
            if id not in waiting:
                task.cancel()
        for id in waiting.keys() - self._asking.keys():
            asked, state = waiting[id]
            work = self._approval(state, id, asked) if isinstance(asked, RequestApproval) else self._question(state, id, asked)
            self._asking[id] = asyncio.get_running_loop().create_task(work)

    async def _approval(self, state: RunState, id: CommandId, asked: RequestApproval) -> None:
        if not may_approve(asked, self._client.user):
            await self._exchange.send(chunk("status", "waiting"))
            return  # another person's to answer, at another door

        async def decide(reply: bytes) -> bool:
            decision = decision_of(reply)
            if decision is None:
                return False
            if decision.approved:
                await self._client.approve(state.run, id)
            else:
                await self._client.refuse(state.run, id, reason=decision.reason)
            return True

        if id in (await self._client.state(state.run)).approvals():  # a retry reads what was answered long ago
            await self._until_understood(id, approval_text(asked, state, self._language), decide)

    async def _question(self, state: RunState, id: CommandId, asked: AskPerson) -> None:
        async def take(reply: bytes) -> bool:
            said = filled(asked, reply)
            if said is None:
                return False
            await self._client.answer(state.run, id, said.content)
            return True

        if id not in (await self._client.state(state.run)).questions():
            return
        if secret_of(asked) is not None:  # what is answered would stand in the log
            with suppress(TooLate):
                await self._client.answer(state.run, id, None)
            return
        await self._until_understood(id, question_text(asked, self._language), take)

    async def _until_understood(self, id: CommandId, text: str, take: Callable[[bytes], Awaitable[bool]]) -> None:
        """Ask, and once more with the reason where an answer could not be taken."""
        again = ""
        for number in range(TRIES):
            name = f"{id}-{number}" if number else id
            reply = await self._exchange.ask(partial(query, name, again + text))
            try:
                if await take(reply):
                    return
                again = unclear(self._language)
            except TooLate:
                return  # somebody else answered first: the log tells whom
            except MilepostError as error:
                again = f"{error.what} {error.why}".strip() + "\n"


def _conversation(tenant: str, key: str | None) -> str:
    """A conversation of one's own: the same again for the same key."""
    return f"c-{digest('conversation of a key', tenant, key)[:16]}" if key else f"c-{secrets.token_hex(8)}"
