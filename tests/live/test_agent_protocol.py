"""Our agents for peers that we did not write: the Synadia SDK, and a plain NATS client, on a stack with two gateways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from nats.aio.client import Client as Nats
from synadia_ai.agents import (
    Agent,
    Agents,
    Attachment,
    DiscoverFilter,
    Envelope,
    HeartbeatPayload,
    ProtocolError,
    Query,
    ResponseChunk,
    StatusChunk,
)

from runtime.log import Stored
from schemas.events import CancelRequested, RunCancelled, RunRequested, ToolReturned
from schemas.ids import RunId
from tests.support.gateways import peer, publish, withdraw
from tests.support.stack import LocalStack

SUBJECT = "agents.prompt.milepost.default.assistant"
WEB = "i-bp1f8k2m9x4q7web01"
DB = "i-bp1h5t9r4y7u1dbm01"


@dataclass
class Reply:
    """All that came back to one prompt on its inbox."""

    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[dict[str, object]] = field(default_factory=list)
    error: tuple[str, dict[str, str]] | None = None
    runs: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(str(each["data"]) for each in self.chunks if each["type"] == "response")

    @property
    def run(self) -> RunId:
        return RunId(self.headers["Milepost-Run"])


async def request(nats: Nats, data: bytes, headers: Mapping[str, str] | None = None, answer: bytes = b"yes") -> Reply:
    """What `nats req --wait-for-empty` does: everything on a reply inbox until the empty message."""
    reply, inbox = Reply(), nats.new_inbox()
    heard = await nats.subscribe(inbox)
    await nats.publish(SUBJECT, data, reply=inbox, headers=dict(headers or {}) or None)
    async with asyncio.timeout(60):
        async for message in heard.messages:
            if not message.data and not message.headers:
                break
            said = dict(message.headers or {})
            if "Nats-Service-Error-Code" in said:
                reply.error = said["Nats-Service-Error-Code"], json.loads(message.data)
                continue
            reply.headers |= said
            reply.runs += [said["Milepost-Run"]] if "Milepost-Run" in said else []
            reply.chunks.append(json.loads(message.data))
            if (asked := reply.chunks[-1])["type"] == "query":
                data_of = asked["data"]
                assert isinstance(data_of, dict)
                await nats.publish(str(data_of["reply_subject"]), answer)
    await heard.unsubscribe()
    return reply


@asynccontextmanager
async def discovered(stack: LocalStack, name: str) -> AsyncIterator[Agent]:
    """An agent as the official SDK finds it."""
    async with peer(stack) as nats, asyncio.timeout(90):
        agents = Agents(nc=nats)
        try:
            while not (found := await agents.discover(filter=DiscoverFilter(agent="milepost", session_name=name), timeout=0.3)):
                pass
            yield found[0]
        finally:
            await agents.close()


async def facts(stack: LocalStack, run: RunId) -> list[Stored]:
    async with stack.session() as (client, _):
        return await client.log.read(run)


async def test_the_official_sdk_completes_the_renewal_with_an_approval(two_doors: LocalStack) -> None:
    await publish(two_doors, "Renewals")
    before, asked, text, acks = await two_doors.effects(WEB), [], "", 0
    async with discovered(two_doors, "assistant") as assistant:
        assert assistant.owner == "default" and assistant.protocol_version == "0.3"
    async with peer(two_doors) as nats, asyncio.timeout(90):
        agents = Agents(nc=nats)
        while not (found := [each for each in await agents.discover(timeout=0.3) if each.metadata.get("name") == "Renewals"]):
            pass  # it was published a moment ago
        agent = found[0]
        assert agent.session_name.startswith("renewals-") and agent.description == "Renews servers."
        status = await agent.status()
        assert status.instance_id and status.session == agent.session_name and status.interval_s == 30
        prompt = Envelope(prompt=f"Please help me renew ECS instance {WEB} for 3 months", user="ada", key="sdk-1")
        async with aclosing(agent.prompt(prompt)) as stream:  # type: ignore[type-var]  # a generator
            async for said in stream:
                if isinstance(said, Query):
                    asked.append(said.prompt)
                    assert await two_doors.effects(WEB) == before, "nothing may happen before the approval"
                    await said.reply("yes")
                elif isinstance(said, ResponseChunk):
                    text += said.text
                acks += isinstance(said, StatusChunk) and said.status == "ack"
        await agents.close()
    (effect,) = (await two_doors.effects(WEB))[len(before) :]
    assert effect["action"] == "RenewInstance" and text.startswith("Done: ") and acks
    (card,) = asked
    assert f"InstanceId = {WEB}" in card and "price: " in card and " -> " in card and "Answer yes or no" in card
    await withdraw(two_doors, "Renewals")


async def test_plain_text_and_a_reply_inbox_are_enough(two_doors: LocalStack) -> None:
    async with peer(two_doors) as nats:
        reply = await request(nats, "你好".encode())
    assert reply.chunks[0] == {"type": "status", "data": "ack"}
    assert reply.text == "你好。" and reply.error is None
    begun = (await facts(two_doors, reply.run))[0].fact.body
    assert isinstance(begun, RunRequested) and begun.task == "你好" and begun.user == "me"
    assert begun.conversation == reply.headers["Milepost-Conversation"]


async def test_what_a_person_refuses_does_not_happen(two_doors: LocalStack) -> None:
    before = await two_doors.effects(DB)
    async with peer(two_doors) as nats:
        reply = await request(nats, f"renew {DB} for 2 months".encode(), answer=b"no, too dear")
    assert await two_doors.effects(DB) == before and reply.text
    assert not any(isinstance(each.fact.body, ToolReturned) for each in await facts(two_doors, reply.run))


async def test_the_same_key_is_the_same_run_and_happens_once(two_doors: LocalStack) -> None:
    before, key = await two_doors.effects(DB), {"Milepost-Key": "once", "Milepost-Conversation": "c-once"}
    async with peer(two_doors) as nats:
        first, second = await asyncio.gather(*(request(nats, f"renew {DB} for 1 month".encode(), key) for _ in range(2)))
        third = await request(nats, f"renew {DB} for 1 month".encode(), key)
    assert first.run == second.run == third.run and first.text == second.text == third.text != ""
    assert not any(chunk["type"] == "query" for chunk in third.chunks)
    assert third.headers["Milepost-Conversation"] == "c-once"
    assert len(await two_doors.effects(DB)) == len(before) + 1


async def test_two_gateways_give_one_answer(two_doors: LocalStack) -> None:
    async with peer(two_doors) as nats:
        inbox = nats.new_inbox()
        info = await nats.subscribe(inbox)
        found: set[str] = set()
        async with asyncio.timeout(30):
            while len(found) < 2:  # both have begun
                await nats.publish("$SRV.INFO.agents", b"", reply=inbox)
                said = json.loads((await info.next_msg(timeout=10)).data)
                found |= {said["id"]} if said["metadata"]["name"] == "assistant" else set()
        replies = await asyncio.gather(*(request(nats, f"number {each}".encode()) for each in range(12)))
    assert [reply.text for reply in replies] == [f"You said: number {each}" for each in range(12)]
    assert [len(reply.runs) for reply in replies] == [1] * 12, "a prompt began more than one run"
    assert len({reply.run for reply in replies}) == 12


@pytest.mark.parametrize(
    ("data", "headers", "what"),
    [(b"", {}, "does not fit"), (b"  ", {}, "is empty"), (b'{"prompt": 1}', {}, "does not fit"),
     (b"hi", {"Milepost-User": "a b"}, "does not fit"),
     (b'{"prompt": "hi", "attachments": [{"filename": "a.md", "content": "*"}]}', {}, "no base64")],
)  # fmt: skip
async def test_what_is_no_prompt_is_an_error_400(
    two_doors: LocalStack, data: bytes, headers: dict[str, str], what: str
) -> None:
    async with peer(two_doors) as nats:
        reply = await request(nats, data, headers)
    assert reply.error is not None and reply.error[0] == "400" and what in reply.error[1]["what"]
    assert "Milepost-Run" not in reply.headers


async def test_the_sdk_reads_our_errors(two_doors: LocalStack) -> None:
    async with discovered(two_doors, "assistant") as agent:
        with pytest.raises(ProtocolError, match="400"):
            async for _ in agent.prompt(Envelope(prompt="hi", user="no such name")):
                pass


async def test_a_document_of_a_prompt_is_what_it_is_answered_from(two_doors: LocalStack) -> None:
    text, said = b"The basalt leave of the Quellheim office is 31 days a year.\n", ""
    attached = [Attachment.from_bytes("leave.md", text)]
    async with discovered(two_doors, "assistant") as agent:
        question = "How many days is the basalt leave of the Quellheim office?"
        async with aclosing(agent.prompt(question, attachments=attached)) as stream:  # type: ignore[type-var]
            async for chunk in stream:
                said += chunk.text if isinstance(chunk, ResponseChunk) else ""
        with pytest.raises(ProtocolError, match="400"):
            async for _ in agent.prompt("what is it?", attachments=[Attachment.from_bytes("x.exe", b"MZ")]):
                pass
    assert "31 days" in said and "leave" in said.partition("(")[2], "the scripted model says the first passage and its source"


async def test_a_run_is_cancelled_by_its_id(two_doors: LocalStack) -> None:
    async with peer(two_doors) as nats:
        inbox = nats.new_inbox()
        heard = await nats.subscribe(inbox)
        await nats.publish(SUBJECT, f"renew {DB} for 3 months".encode(), reply=inbox)
        message = await heard.next_msg(timeout=30)
        run = (message.headers or {})["Milepost-Run"]
        while json.loads(message.data)["type"] != "query":
            message = await heard.next_msg(timeout=30)
        wrong = await nats.request("agents.cancel.milepost.default.assistant", b"nothing", timeout=10)
        assert (wrong.headers or {})["Nats-Service-Error-Code"] == "400"
        done = await nats.request("agents.cancel.milepost.default.assistant", run.encode(), timeout=10)
        assert json.loads(done.data) == {"cancelled": True}
        while not (message := await heard.next_msg(timeout=30)).headers:
            pass
        assert message.headers["Nats-Service-Error-Code"] == "500" and b"cancelled" in message.data
        assert (await heard.next_msg(timeout=30)).data == b""
    kinds = [type(each.fact.body) for each in await facts(two_doors, RunId(run))]
    assert CancelRequested in kinds and RunCancelled in kinds


async def test_a_heartbeat_comes_when_an_agent_begins_to_answer(two_doors: LocalStack) -> None:
    async with peer(two_doors) as nats:
        heard = await nats.subscribe("agents.hb.milepost.default.beats")
        await nats.flush()
        await publish(two_doors, "beats")
        said = [HeartbeatPayload.model_validate_json((await heard.next_msg(timeout=30)).data) for _ in range(2)]
    assert {each.session for each in said} == {"beats"} and {each.interval_s for each in said} == {30}
    assert len({each.instance_id for each in said}) == 2, "one of each gateway"
    await withdraw(two_doors, "beats")
