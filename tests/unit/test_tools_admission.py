"""What stands before a call and after it: secrets by reference, rates, results that are too large."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.errors import NotYet
from runtime.payloads import Payloads, memory_payloads
from schemas.commands import CallTool
from schemas.events import AnyEvent, Failure, ToolAsked, ToolFailed, ToolReturned
from schemas.tools import Part, Question, ToolCard, ToolResult
from services.tools.argument_secrets import Secrets, resolved
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.rates import BURST_S, Rates
from services.tools.reading import MAX_ATTEMPTS
from services.tools.service import Toolbox
from tests.support.builders import call
from tests.support.shop import Counter, Shop
from tests.support.simulation import LoopClock, in_virtual_time
from tool_adapters.tool import CallContext, InvalidArguments, NeedsAnswer, Plan, Reconciled, ToolUnavailable

PASSWORD = {"type": "string", "format": "password"}
NESTED: dict[str, object] = {
    "type": "object",
    "$defs": {
        "login": {"type": "object", "properties": {"key": {"type": "string", "writeOnly": True}, "user": {"type": "string"}}}
    },
    "properties": {
        "login": {"anyOf": [{"$ref": "#/$defs/login"}, {"type": "null"}]},
        "keys": {"type": "array", "items": {"type": "string", "x-secret": True}},
        "headers": {"type": "object", "additionalProperties": PASSWORD},
        "text": {"type": "string"},
    },
}


def test_references_are_resolved_wherever_the_schema_has_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MILEPOST_SECRET_A", "first")
    (tmp_path / "b").write_text("second\n")
    given: dict[str, object] = {
        "login": {"key": "env:MILEPOST_SECRET_A", "user": "env:MILEPOST_SECRET_A"}, "keys": ["file:b"],
        "headers": {"X-Key": "file:b"}, "text": "env:MILEPOST_SECRET_A",
    }  # fmt: skip

    arguments, known = resolved(NESTED, given, Secrets(tmp_path))

    assert arguments == {
        "login": {"key": "first", "user": "env:MILEPOST_SECRET_A"}, "keys": ["second"], "headers": {"X-Key": "second"},
        "text": "env:MILEPOST_SECRET_A",
    }  # fmt: skip
    assert sorted(known) == ["first", "second", "second"]


@pytest.mark.parametrize(
    "reference",
    [
        "hunter2",
        "env:HOME",
        "env:MILEPOST_SECRET_MISSING",
        "file:../outside",
        "file:/etc/hostname",
        "file:missing",
        "",
        5,
        ["x"],
    ],
)
def test_what_is_no_reference_to_an_allowed_secret_is_refused(reference: object, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").write_text("secret")
    with pytest.raises(InvalidArguments) as refused:
        resolved(NESTED, {"login": {"key": reference}}, Secrets(tmp_path / "inside"))

    assert "login.key" in refused.value.what and refused.value.hint
    assert "hunter2" not in str(refused.value)


@in_virtual_time
async def test_secrets_of_a_write_reach_its_tool_alone() -> None:
    import os

    os.environ["MILEPOST_SECRET_TEA"] = "darjeeling"
    parameters: dict[str, object] = {"type": "object", "properties": {"item": PASSWORD}}
    counter = Counter(shop := Shop(parameters=parameters))
    plan = await counter.planned("env:MILEPOST_SECRET_TEA")
    event = await counter.sell(counter.sale(plan))
    assert shop.sold == ["darjeeling"]
    assert isinstance(event, ToolReturned) and event.result.text == "sold [redacted: secret]"
    assert plan.preview.summary == "Sell [redacted: secret]"
    effect = await counter.ledger.show("acme", plan.write_key)
    assert effect and "darjeeling" not in effect.model_dump_json() and effect.arguments == {"item": "env:MILEPOST_SECRET_TEA"}


# --- rates ---


def test_a_bucket_lets_no_more_through_than_its_rate_and_a_short_burst() -> None:
    now, passed = [0.0], 0
    rates = Rates(lambda: now[0])
    for _ in range(600):
        passed += rates.take("acme", "t", 60, 0.0) == 0.0
        now[0] += 0.1
    assert 60 <= passed <= 60 * (1 + BURST_S / 60)
    assert rates.take("globex", "t", 60, 0.0) == 0.0
    assert rates.take("acme", "free", None, 0.0) == 0.0


def test_who_will_not_wait_is_not_counted() -> None:
    rates = Rates(lambda: 0.0)
    assert rates.take("acme", "t", 1, 0.0) == 0.0
    assert [round(rates.take("acme", "t", 1, 30.0)) for _ in range(3)] == [60, 60, 60]
    assert [round(rates.take("acme", "t", 1, 300.0)) for _ in range(3)] == [60, 120, 180]


# --- reads ---


class Reader:
    """Answers what it is told to."""

    def __init__(self, *answers: ToolResult | Exception) -> None:
        self.card = ToolCard(name="look", description="looks", parameters={"type": "object"})
        self.answers, self.contexts = list(answers), list[CallContext]()

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        self.contexts.append(context)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        raise AssertionError

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        raise AssertionError


async def looked(reader: Reader, attempt: int = 1, payloads: Payloads | None = None, answers: object = None) -> AnyEvent:
    box = Toolbox([reader], MemoryEffectLedger(), LoopClock(), lane="l", payloads=payloads)
    command = CallTool(call=call("look"), card_hash=box.cards()[0].hash(), host="l")
    counter = Counter(Shop())
    return await box.call(command, counter.context(counter.order(command, answers=answers), attempt))


async def kept(reader: Reader) -> tuple[ToolResult, list[bytes]]:
    """What is told of the answer, and the bytes that were kept of it."""
    payloads = memory_payloads()
    event = await looked(reader, payloads=payloads)
    assert isinstance(event, ToolReturned), event
    return event.result, [await payloads.get(part.ref, tenant="acme") for part in event.result.parts if part.ref]


@in_virtual_time
async def test_a_read_is_tried_again_when_its_provider_says() -> None:
    busy = ToolUnavailable("Throttled.", retry_after_s=3.0)
    delays = []
    for _ in range(20):
        with pytest.raises(NotYet) as later:
            await looked(Reader(busy))
        delays.append(later.value.delay_s)
    assert all(3.0 <= delay <= 3.75 for delay in delays) and len(set(delays)) > 10
    assert isinstance(await looked(Reader(busy), attempt=MAX_ATTEMPTS), ToolFailed)


@in_virtual_time
async def test_a_read_may_ask_a_person_and_gets_the_answers() -> None:
    question = Question(id="q1", text="Which one?")
    event = await looked(Reader(NeedsAnswer(question)))
    assert isinstance(event, ToolAsked) and event.question == question
    reader = Reader(ToolResult(text="that one"))
    await looked(reader, answers={"q1": {"which": "that"}, "q2": None})
    context = reader.contexts[0]
    assert context.answers == {"q1": {"which": "that"}, "q2": None}
    assert (context.conversation, context.agent, context.user, context.command) == ("talk", "ops", "ann", "1" * 32)


@in_virtual_time
async def test_an_order_that_the_gate_refuses_touches_no_tool() -> None:
    async def gate(command: object, context: object) -> Failure | None:
        return Failure(type="CapabilityMissing", what="No.")

    reader = Reader()
    box = Toolbox([reader], MemoryEffectLedger(), LoopClock(), lane="l", gate=gate)
    counter, command = Counter(Shop()), CallTool(call=call("look"), card_hash="another", host="l")
    event = await box.call(command, counter.context(counter.order(command)))
    assert isinstance(event, ToolFailed) and event.failure.type == "CapabilityMissing"


LONG = "好" * 4_000_000  # 12 MB


async def test_a_result_that_is_too_large_is_kept_and_its_beginning_read() -> None:
    event = await looked(Reader(ToolResult(text=LONG)))
    assert isinstance(event, ToolFailed) and event.failure.type == "InvalidResult"

    result, stored = await kept(Reader(ToolResult(text=LONG)))
    assert stored == [LONG.encode()]
    assert result.text.startswith("好好好") and "payload:" in result.text and len(result.text) < 3000
    (part,) = result.parts
    assert (part.kind, part.media_type, part.size) == ("text", "text/plain", 12_000_000)

    rows = [{"n": n, "text": "x" * 50} for n in range(10_000)]
    parts = (Part(kind="json", json_value=rows), Part(kind="text", text="short"))
    result, stored = await kept(Reader(ToolResult(text=json.dumps(rows), parts=parts)))
    assert [json.loads(each) for each in stored] == [rows]
    assert [part.kind for part in result.parts] == ["json", "text"] and result.parts[1].text == "short"


async def test_bytes_in_a_text_are_kept_as_a_file() -> None:
    result, stored = await kept(Reader(ToolResult(text="GIF89a\x00\x01\x02")))
    assert stored == [b"GIF89a\x00\x01\x02"]
    assert result.parts[0].kind == "file" and result.parts[0].media_type == "application/octet-stream"
    assert "\x00" not in result.text
    event = await looked(Reader(ToolResult(text="GIF89a\x00")))
    assert isinstance(event, ToolFailed)


@in_virtual_time
async def test_a_write_with_a_result_that_cannot_be_kept_was_done_all_the_same() -> None:
    counter = Counter(shop := Shop(said=LONG))
    event = await counter.sell(counter.sale(await counter.planned()))
    assert isinstance(event, ToolReturned) and event.result.text.startswith("It was done; its answer could not be kept.")
    assert shop.sold == ["tea"]
