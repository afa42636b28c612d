"""The Synadia Agent Protocol without a bus: prompts read, a person's words understood, a run told in chunks."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress

import pytest

from runtime.client import Client
from runtime.log import Stored
from runtime.memory_broker import MemoryBroker
from runtime.speech import Delta, write_delta
from schemas import subjects
from schemas.agent import AgentSpec
from schemas.commands import AskPerson, CallTool, Generate
from schemas.events import ApprovalGranted, ApprovalRefused, PersonAnswered, ToolAsked
from schemas.ids import RunId
from schemas.policy import Verdict
from schemas.tools import Question
from services.gateway.bus.agent_protocol import (
    BadPrompt,
    NoAnswer,
    Prompt,
    Spoken,
    Station,
    read_prompt,
    token_of,
)
from services.gateway.bus.agent_protocol import Question as Query
from services.gateway.bus.answering import Answering
from services.gateway.ports.library import Progress
from services.gateway.runs.asking import Decision, decision_of, filled, question_text
from tests.support.builders import NOW, TENANT, RunUnderTest, call, ready

KEY = "key"  # of the runs that tests.support.builders makes


# --- prompts ---


def test_a_prompt_is_plain_text_or_an_envelope() -> None:
    assert read_prompt("续费 i-1".encode()).prompt == "续费 i-1"
    content = base64.b64encode(b"# Notes").decode()
    said = {"prompt": "hi", "attachments": [{"filename": "n.md", "content": content}], "key": "k", "session": "ignored"}
    read = read_prompt(json.dumps(said).encode(), {"Milepost-Key": "k2", "Milepost-User": "ann"})
    assert (read.prompt, read.key, read.user, read.conversation) == ("hi", "k2", "ann", None)
    assert read.attachments[0].data() == b"# Notes"


@pytest.mark.parametrize(
    "data",
    [b"", b" \n", b"\xff\xfe", b"{", b'{"prompt": 3}', b'{"prompt": ""}', b"{}", b'{"prompt": "x", "conversation": "a.b"}',
     b'{"prompt": "x", "attachments": [{"filename": "a"}]}', b'{"prompt": "x", "attachments": "no"}', b"x" * 100_001],
)  # fmt: skip
def test_what_is_no_prompt_is_refused_with_the_reason(data: bytes) -> None:
    with pytest.raises(BadPrompt) as raised:
        read_prompt(data)
    assert raised.value.hint


@pytest.mark.parametrize("user", ["a b", "agents.>", "", "é"])
def test_a_user_must_be_a_name(user: str) -> None:
    with pytest.raises(BadPrompt):
        read_prompt(b"hi", {"Milepost-User": user})


def test_names_are_tokens_and_no_two_share_one() -> None:
    assert token_of("ops-team_2") == "ops-team_2"
    names = ["Ops", "ops", "OPS", "x" * 64, "X" * 64, "-"]
    tokens = [token_of(name) for name in names]
    assert len(set(tokens)) == len(names)
    assert all(len(token) <= 63 and token == token.lower() for token in tokens)
    assert Station("default", "ops").subject("prompt") == "agents.prompt.milepost.default.ops"


# --- a person's words ---


@pytest.mark.parametrize("said", ["yes", " Y ", "OK!", "好的。", "同意", '{"approved": true}', '{"prompt": "yes"}'])
def test_a_yes_approves(said: str) -> None:
    assert decision_of(said) == Decision(True)


@pytest.mark.parametrize(
    ("said", "reason"),
    [("no", ""), ("No, too dear", "too dear"), ("不同意，太贵", "太贵"), ('{"approved": false, "reason": "later"}', "later"),
     ('{"prompt": "{\\"approved\\": false}"}', ""), (" - no: wait", "wait")],
)  # fmt: skip
def test_a_no_refuses_with_its_reason(said: str, reason: str) -> None:
    assert decision_of(said.encode()) == Decision(False, reason)


@pytest.mark.parametrize(
    "said",
    ["", "yes, but for 2 months", "maybe", '{"approved": "yes"}', '{"approved": true', "{}", "\x00", "，。"],
)
def test_anything_else_decides_nothing(said: str) -> None:
    assert decision_of(said) is None


def asked(**fields: object) -> AskPerson:
    run = ready()
    run.say(call("clock"))
    schema = {"type": "object", "properties": fields}
    run.answer(ToolAsked(command=run.one(CallTool), question=Question(id="q", text="How large?", fields=schema)))
    return run.open(AskPerson)[0][1]


@pytest.mark.parametrize(
    ("fields", "said", "content"),
    [
        ({"size": {"type": "integer"}}, "3", {"size": 3}),
        ({"size": {"type": "integer"}}, "large", {"size": "large"}),
        ({"sure": {"type": "boolean"}}, "好", {"sure": True}),
        ({"a": {"type": "string"}, "b": {"type": "number"}}, "a=x\nb = 1.5", {"a": "x", "b": 1.5}),
        ({"a": {"type": "string"}, "b": {"type": "number"}}, '{"a": "x", "b": 2}', {"a": "x", "b": 2}),
        ({}, "yes", {}),
    ],
)
def test_an_answer_to_a_tool_is_read_by_its_fields(fields: dict[str, object], said: str, content: object) -> None:
    found = filled(asked(**fields), said)
    assert found is not None and found.content == content
    declined = filled(asked(**fields), "decline")
    assert declined is not None and declined.content is None


def test_an_answer_that_names_nothing_is_none() -> None:
    two = asked(a={"type": "string", "title": "The name"}, b={"type": "number"})
    assert filled(two, "x") is None and filled(two, "c=1") is None
    assert "a - The name (string)" in question_text(two, "en") and "How large?" in question_text(two, "zh")


# --- text ---


def test_text_is_said_once_whatever_begins_anew() -> None:
    spoken = Spoken()
    heard = [
        spoken.hear(Delta(command, attempt, 0, text))
        for command, attempt, text in [
            ("a", 1, "Let "), ("a", 1, "me see."), ("b", 1, "Done"), ("b", 2, "Do"), ("b", 2, "ne: yes"), ("a", 1, "late")
        ]
    ]  # fmt: skip
    assert heard == ["Let ", "me see.", "\n\nDone", "", ": yes", ""]
    assert spoken.end("Done: yes!") == "!"
    assert spoken.end("Otherwise") == "\n\nOtherwise"
    assert Spoken().end("All of it") == "All of it"


# --- a run ---


class Caller:
    """services.gateway.bus.agent_protocol.Exchange in memory, with a person who answers in turn."""

    def __init__(self, *answers: str) -> None:
        self.chunks: list[dict[str, object]] = []
        self.headers: list[Mapping[str, str]] = []
        self.queries: list[str] = []
        self.withdrawn = asyncio.Event()
        self._answers = list(answers)

    async def send(self, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.chunks.append(json.loads(data))
        self.headers += [headers] if headers else []

    async def ask(self, question: Query) -> bytes:
        said = json.loads(question("_INBOX.x"))
        assert said["type"] == "query" and said["data"]["reply_subject"] == "_INBOX.x"
        self.queries.append(said["data"]["prompt"])
        if not self._answers:
            try:
                await asyncio.Event().wait()
            finally:
                self.withdrawn.set()
        return self._answers.pop(0).encode()

    @property
    def text(self) -> str:
        return "".join(str(each["data"]) for each in self.chunks if each["type"] == "response")


class Shelf:
    """services.gateway.ports.library.Library that takes what ends in .md."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, str, bytes]] = []

    async def add(self, tenant: str, collection: str, name: str, content: bytes) -> AsyncIterator[Progress]:
        yield Progress(state="reading", name=name)
        if not name.endswith(".md"):
            yield Progress(state="refused", name=name, why="nobody reads such files", hint="send .md")
            return
        self.taken.append((tenant, collection, name, content))
        yield Progress(state="added", name=name)


class _Clock:
    def now(self):  # type: ignore[no-untyped-def]
        return NOW


class Log:
    """A run in a log, which a test takes on by hand."""

    def __init__(self, run: RunUnderTest) -> None:
        self.run, self.broker = run, MemoryBroker()
        self.client = Client(self.broker, self.broker, _Clock(), tenant=TENANT, user="ann")

    async def write(self) -> None:
        for stored in self.run.log[len(await self.broker.read(self.run.id)) :]:
            await self.broker.append(stored.fact)

    async def until(self, kind: type) -> None:
        """Wait until a client stated an event of this kind, and let the run hear it."""
        async for stored in self.broker.follow(self.run.id):
            if isinstance(stored.fact.body, kind):
                self.run.hear(stored.fact)
                return

    async def finish(self, *, text: str) -> None:
        self.run.say(text=text)
        self.run.end()
        await self.write()


def slowly(broker: MemoryBroker) -> Callable[[RunId], AsyncIterator[Stored]]:
    """A log whose facts come with pauses, as over a network."""
    quick = broker.follow

    async def follow(run: RunId) -> AsyncIterator[Stored]:
        async for stored in quick(run):
            yield stored
            for _ in range(50):
                await asyncio.sleep(0)

    return follow


async def begun(run: RunUnderTest) -> Log:
    log = Log(run)
    await log.write()
    return log


def answering(log: Log, caller: Caller, library: Shelf | None = None, keep_s: float = 60.0) -> asyncio.Task[None]:
    work = Answering(log.client, library or Shelf(), caller, keep_s=keep_s).answer(
        Prompt(prompt="renew it", key=KEY), AgentSpec()
    )
    return asyncio.create_task(work)


async def asking(**verdict: object) -> Log:
    run = ready(task="renew it for 1 month")
    run.say(call("renew", months=1))
    run.plans(verdict=Verdict.model_validate({"outcome": "ask", "rule": "two", **verdict}))
    return await begun(run)


async def test_an_answer_comes_as_it_is_generated() -> None:
    log = await begun(ready())
    caller, ((command, _),) = Caller(), log.run.open(Generate)
    task = answering(log, caller)
    while not caller.headers:
        await asyncio.sleep(0)
    assert caller.headers[0]["Milepost-Run"] == log.run.id and caller.headers[0]["Milepost-Conversation"]
    subject = subjects.delta(TENANT, log.run.id, command)
    while not caller.text:  # heard once somebody listens
        await log.broker.tell(subject, write_delta(Delta(command, 1, 0, "It is ")))
        await asyncio.sleep(0)
    await log.finish(text="It is noon.")
    await asyncio.wait_for(task, 5)
    assert caller.text == "It is noon."
    assert [each["data"] for each in caller.chunks if each["type"] == "response"] == ["It is ", "noon."]


async def test_a_person_is_asked_until_they_are_understood() -> None:
    log, caller = await asking(), Caller("well", "yes")
    task = answering(log, caller)
    await asyncio.wait_for(log.until(ApprovalGranted), 5)
    assert len(caller.queries) == 2 and "months = 1" in caller.queries[0]
    assert caller.queries[1] == "That was not understood. " + caller.queries[0]
    log.run.returns(log.run.one(CallTool))
    await log.finish(text="Renewed.")
    await asyncio.wait_for(task, 5)
    assert caller.text == "Renewed."


async def test_a_refusal_bears_its_reason() -> None:
    log, caller = await asking(), Caller("no, too dear")
    task = answering(log, caller)
    await asyncio.wait_for(log.until(ApprovalRefused), 5)
    said = (await log.broker.read(log.run.id))[-1].fact.body
    assert isinstance(said, ApprovalRefused) and said.reason == "too dear" and said.by == "ann"
    await log.finish(text="Then not.")
    await asyncio.wait_for(task, 5)


async def test_what_another_person_is_to_allow_is_not_asked_here() -> None:
    log, caller = await asking(approvers=("bob",)), Caller("yes")
    task = answering(log, caller)
    while {"type": "status", "data": "waiting"} not in caller.chunks:
        await asyncio.sleep(0)
    ((approval, _),) = log.run.state.approvals().items()
    await log.client.approve(log.run.id, approval, by="bob")
    await log.until(ApprovalGranted)
    log.run.returns(log.run.one(CallTool))
    await log.finish(text="Renewed.")
    await asyncio.wait_for(task, 5)
    assert caller.queries == [] and caller.text == "Renewed."


async def test_what_was_answered_elsewhere_is_withdrawn() -> None:
    log, caller = await asking(), Caller()  # nobody answers here
    task = answering(log, caller)
    while not caller.queries:
        await asyncio.sleep(0)
    ((approval, _),) = log.run.state.approvals().items()
    await log.client.refuse(log.run.id, approval)
    await log.until(ApprovalRefused)
    await asyncio.wait_for(caller.withdrawn.wait(), 5)
    assert not task.done()
    await log.finish(text="Then not.")
    await asyncio.wait_for(task, 5)
    again = Caller()
    log.broker.follow = slowly(log.broker)  # type: ignore[method-assign, assignment]
    await asyncio.wait_for(answering(log, again), 5)
    assert again.text == "Then not." and again.queries == [], "the same key is the same run, and asks nothing again"


async def test_a_tools_question_is_asked_with_the_reason_why_an_answer_was_not_taken() -> None:
    run = ready()
    run.say(call("clock"))
    fields = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}
    run.answer(ToolAsked(command=run.one(CallTool), question=Question(id="q", text="How large?", fields=fields)))
    log, caller = await begun(run), Caller("large", "3")
    task = answering(log, caller)
    await asyncio.wait_for(log.until(PersonAnswered), 5)
    said = (await log.broker.read(run.id))[-1].fact.body
    assert isinstance(said, PersonAnswered) and said.content == {"size": 3}
    assert '"large" is not of type "integer"' in caller.queries[1]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_nobody_is_asked_for_a_secret_in_the_open() -> None:
    run = ready()
    run.say(call("clock"))
    fields = {"type": "object", "properties": {"password": {"type": "string", "format": "password"}}}
    run.answer(ToolAsked(command=run.one(CallTool), question=Question(id="q", text="Who are you?", fields=fields)))
    log, caller = await begun(run), Caller("hunter2")
    task = answering(log, caller)
    await asyncio.wait_for(log.until(PersonAnswered), 5)
    said = (await log.broker.read(run.id))[-1].fact.body
    assert isinstance(said, PersonAnswered) and not said.accepted and caller.queries == []
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_run_without_an_answer_is_an_error() -> None:
    log = await begun(ready())
    log.run.cancel()
    log.run.end()
    await log.write()
    with pytest.raises(NoAnswer, match="cancelled"):
        await asyncio.wait_for(answering(log, Caller()), 5)


async def test_signs_of_life_come_while_a_person_decides() -> None:
    log, caller = await asking(), Caller()
    task = answering(log, caller, keep_s=0.01)
    async with asyncio.timeout(5):
        while sum(each == {"type": "status", "data": "ack"} for each in caller.chunks) < 4:
            await asyncio.sleep(0.005)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_documents_go_where_only_their_conversation_looks() -> None:
    log, caller, shelf = Log(ready()), Caller(), Shelf()
    notes = {"filename": "n.md", "content": base64.b64encode(b"# N").decode()}
    prompt = Prompt.model_validate({"prompt": "what is in it?", "attachments": [notes], "conversation": "c-1"})
    work = Answering(log.client, shelf, caller)
    task = asyncio.create_task(work.answer(prompt, AgentSpec(knowledge_k=0)))
    while not caller.headers:
        await asyncio.sleep(0)
    request = (await log.client.state(caller.headers[0]["Milepost-Run"])).request  # type: ignore[arg-type]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    ((tenant, collection, _, content),) = shelf.taken
    assert (tenant, content) == (TENANT, b"# N")
    assert request is not None and request.agent.collections == ("default", collection) and request.agent.knowledge_k > 0
    refused = {"filename": "n.exe", "content": ""}
    with pytest.raises(BadPrompt, match=r"n\.exe"):
        await work.answer(Prompt.model_validate({"prompt": "x", "attachments": [refused]}), AgentSpec())
