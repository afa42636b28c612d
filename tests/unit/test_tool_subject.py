"""Tools that answer on a subject by themselves: what they say is read strictly, and what they did not say is not assumed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import cast

import pytest

from runtime.bus import Bus
from runtime.errors import NobodyAnswers, Unreachable
from runtime.payloads import memory_payloads
from schemas.bus_tools import ToolRequest
from schemas.errors import MilepostError
from schemas.tools import DryRun, Effect, Idempotency, ToolCard
from tool_adapters.keeping import keeper
from tool_adapters.subject import SubjectTool
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    InvalidResult,
    OutcomeUnknown,
    ToolError,
    ToolRefused,
    ToolUnavailable,
)

CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", conversation="c-1", write_key="k1", planned_state='{"n":1}')
Reply = Callable[[str, ToolRequest], bytes]


class Asked:
    """As much of a bus as a tool needs: somebody who answers, and what was asked."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.questions: list[tuple[str, ToolRequest]] = []

    async def ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        question = ToolRequest.model_validate_json(data)
        self.questions.append((subject, question))
        return self._reply(subject, question)


def says(answer: object) -> Reply:
    raw = answer if isinstance(answer, bytes) else answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
    return lambda subject, question: raw


def raises(error: MilepostError) -> Reply:
    def reply(subject: str, question: ToolRequest) -> bytes:
        raise error

    return reply


def tool(
    reply: Reply, effect: Effect = "read", idempotency: Idempotency = "none", dry_run: DryRun = "none"
) -> tuple[SubjectTool, Asked]:  # fmt: skip
    card = ToolCard(
        name="till", description="A till.", lane="bus", effect=effect, idempotency=idempotency, dry_run=dry_run,
        parameters={"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False},
    )  # fmt: skip
    asked = Asked(reply)
    return SubjectTool(card, cast(Bus, asked)), asked


def fault(kind: str, **more: object) -> Reply:
    return says({"fault": {"kind": kind, "what": "It was not done.", **more}})


async def test_a_plain_text_is_the_answer_and_a_json_object_has_to_say_what_it_is() -> None:
    for reply, text in [("sunny\n", "sunny"), ("[1, 2", "[1, 2"), ("{ not json", "{ not json"), ('{"text": "hi"}', "hi")]:
        told, _ = tool(says(reply))
        assert (await told.call({}, CONTEXT)).text == text
    told, asked = tool(says({"result": {"degrees": 20}}))
    result = await told.call({"n": 3}, CONTEXT)
    assert (result.text, result.parts[0].json_value) == ('{"degrees": 20}', {"degrees": 20})
    subject, question = asked.questions[0]
    assert subject == "mp.tool.acme.till"
    assert (question.want, question.tool, question.arguments, question.write_key) == ("call", "till", {"n": 3}, "k1")


async def test_a_shared_tool_is_asked_where_the_tenant_has_none_of_its_own() -> None:
    def reply(subject: str, question: ToolRequest) -> bytes:
        if subject == "mp.tool._all.till":
            return b"open"
        raise NobodyAnswers(f"Nobody answers {subject}.")

    told, asked = tool(reply)
    assert (await told.call({}, CONTEXT)).text == "open"
    assert [subject for subject, _ in asked.questions] == ["mp.tool.acme.till", "mp.tool._all.till"]


@pytest.mark.parametrize(
    "reply",
    [b"\xff\xfe", {"degrees": 20}, {"text": 7}, {"fault": {"kind": "odd", "what": "?"}}, {"parts": [{"kind": "odd"}]},
     {"parts": [{"kind": "image", "ref": "payload:" + "0" * 64}]}, {"parts": [{"kind": "file", "ref": "file:///etc/passwd"}]},
     {"parts": [{"kind": "image", "ref": "data:image/png;base64,***"}]}, "x" * 2_000_000],
)  # fmt: skip
async def test_a_wrong_answer_of_a_read_is_refused(reply: object) -> None:
    with pytest.raises(InvalidResult):
        await tool(says(reply))[0].call({}, CONTEXT)


@pytest.mark.parametrize("reply", [b"\xff\xfe", {"degrees": 20}, {"text": 7}])
async def test_a_write_that_answers_unreadably_is_in_doubt(reply: object) -> None:
    with pytest.raises(OutcomeUnknown):
        await tool(says(reply), "write")[0].call({}, CONTEXT)


async def test_a_write_that_is_done_stays_done_though_its_answer_cannot_be_kept() -> None:
    told, _ = tool(says({"parts": [{"kind": "image", "ref": "payload:" + "0" * 64}]}), "write")
    assert "was done" in (await told.call({}, CONTEXT)).text


@pytest.mark.parametrize("effect", ["read", "write"])
async def test_where_nobody_listens_nothing_was_done(effect: Effect) -> None:
    told, _ = tool(raises(NobodyAnswers("Nobody answers.")), effect)
    with pytest.raises(ToolUnavailable, match="Nobody answers for till"):
        await told.call({}, CONTEXT)


LOST = Unreachable("NATS does not answer.", why="TimeoutError")


@pytest.mark.parametrize(("effect", "error"), [("read", ToolUnavailable), ("write", OutcomeUnknown)])
async def test_without_an_answer_a_write_is_in_doubt(effect: Effect, error: type[ToolError]) -> None:
    with pytest.raises(error):
        await tool(raises(LOST), effect)[0].call({}, CONTEXT)


async def test_asking_for_a_plan_in_vain_leaves_nothing_in_doubt() -> None:
    with pytest.raises(ToolUnavailable):
        await tool(raises(LOST), "write", dry_run="look")[0].plan({}, CONTEXT)


@pytest.mark.parametrize(
    ("kind", "effect", "error"),
    [("refused", "write", ToolRefused), ("unavailable", "write", ToolUnavailable), ("unknown", "write", OutcomeUnknown),
     ("unknown", "read", ToolUnavailable), ("unasked", "read", ToolRefused)],
)  # fmt: skip
async def test_faults_by_their_kind(kind: str, effect: Effect, error: type[ToolError]) -> None:
    with pytest.raises(error, match=r"It was not done\."):
        await tool(fault(kind, code="Odd", retry_after_s=2.0), effect)[0].call({}, CONTEXT)


async def test_wrong_arguments_never_reach_it() -> None:
    told, asked = tool(says("never"))
    with pytest.raises(InvalidArguments):
        await told.call({"n": "three"}, CONTEXT)
    assert asked.questions == []


# --- plans and what happened ----------------------------------------------------------------------


async def test_a_plan_is_what_it_says_it_would_do() -> None:
    said = {"preview": {"summary": "open till 3", "price": "1.50", "currency": "EUR"}, "state": {"open": False, "n": 3}}
    told, asked = tool(says(said), "write", dry_run="look")
    plan = await told.plan({"n": 3}, CONTEXT)
    assert (plan.preview.summary, plan.preview.price, plan.state) == ("open till 3", "1.50", '{"n":3,"open":false}')
    assert asked.questions[0][1].want == "plan"


@pytest.mark.parametrize(("dry_run", "asked_for"), [("none", 0), ("look", 1)])
async def test_a_tool_that_does_not_plan_is_planned_as_its_call(dry_run: DryRun, asked_for: int) -> None:
    told, asked = tool(fault("unasked"), "write", dry_run=dry_run)
    plan = await told.plan({"n": 3}, CONTEXT)
    assert ("n", "3") in plan.preview.rows
    assert len(asked.questions) == asked_for


@pytest.mark.parametrize(
    ("said", "outcome"),
    [({"outcome": "happened", "text": "open"}, "happened"), ({"outcome": "not_happened"}, "not_happened"),
     ({"text": "?"}, "unknown"), ({"fault": {"kind": "unasked", "what": "?"}}, "unknown")],
)  # fmt: skip
async def test_what_happened_is_asked_where_the_card_says_that_it_can_be(said: object, outcome: str) -> None:
    told, _ = tool(says(said), "write", "query")
    found = await told.reconcile({}, CONTEXT)
    assert (found.outcome, found.result.text if found.result else None) == (outcome, "open" if outcome == "happened" else None)
    unasked, asked = tool(says(said), "write", "none")
    assert (await unasked.reconcile({}, CONTEXT)).outcome == "unknown" and asked.questions == []


# --- bytes ----------------------------------------------------------------------------------------


async def test_bytes_come_as_data_addresses_and_are_kept_here() -> None:
    payloads = memory_payloads()
    context = CallContext(tenant="acme", run="r", user="u", keep=keeper(payloads, "acme", None))
    address = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
    told, _ = tool(says({"parts": [{"kind": "image", "ref": address, "name": "a.png"}, {"kind": "text", "text": "a dot"}]}))
    result = await told.call({}, context)
    image, text = result.parts
    assert (image.kind, image.media_type, image.name, image.size, text.text) == ("image", "image/png", "a.png", 28, "a dot")
    assert len(await payloads.get(str(image.ref), tenant="acme")) == 28
    assert str(image.ref) in result.text and "base64" not in result.model_dump_json()


async def test_a_reference_that_it_was_given_may_come_back() -> None:
    ref = "payload:" + "a" * 64
    card = ToolCard(name="echo", description="x", parameters={"type": "object"}, lane="bus")
    told = SubjectTool(card, cast(Bus, Asked(says({"parts": [{"kind": "image", "ref": ref}]}))))
    assert (await told.call({"picture": ref}, CONTEXT)).parts[0].ref == ref
    with pytest.raises(InvalidResult):
        await told.call({}, CONTEXT)
