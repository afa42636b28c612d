"""The envelope: what is said comes back the same, and whatever is wrong with a message is one typed error."""

from __future__ import annotations

import json
import typing
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.orders import material
from schemas.canonical import OBJECT_DEPTH
from schemas.commands import COMMANDS, CallTool, EndRun, Generate, PlanCall, StartTimer
from schemas.envelope import (
    UnknownType,
    decode,
    decode_fact,
    decode_order,
    encode,
    new_fact,
    source_of,
    speakers,
    type_of,
)
from schemas.errors import ProtocolError
from schemas.events import (
    EVENTS,
    Answered,
    ApprovalGranted,
    CancelRequested,
    RunCompleted,
    StepFailed,
    ToolReturned,
    TurnReleased,
)
from schemas.ids import CANCEL_SLOT, END_SLOT, REQUEST_SLOT
from schemas.messages import Sampling
from schemas.tools import ToolResult
from tests.support.builders import CLOCK, NOW, TENANT, call, fact_of, failure, order_for, ready, request_fact, requested, run_of
from tests.support.drawn_run import play

READ = CallTool(call=call("clock"), card_hash="h", host="builtin")
GENERATE = Generate(model="m", after=None, inputs=(), prompt_hash="p", sampling=Sampling())


def raw(**changes: object) -> dict[str, object]:
    message: dict[str, object] = orjson.loads(encode(request_fact()))
    return {**message, **changes}


def read(message: dict[str, object]) -> object:
    return decode_fact(orjson.dumps({key: value for key, value in message.items() if value is not ...}))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_every_fact_of_a_run_survives_the_wire(seed: int) -> None:
    for stored in play(seed).log:
        assert decode_fact(encode(stored.fact)) == stored.fact


def test_an_order_survives_the_wire_with_its_material() -> None:
    order = replace(order_for(READ), material={"user": "ann", "deep": [{"x": [1.5, None]}]})
    assert decode_order(encode(order)) == order


def test_a_fact_is_a_cloudevent() -> None:
    message = raw()
    assert (message["specversion"], message["datacontenttype"]) == ("1.0", "application/json")
    assert message["type"] == "io.milepost.RunRequested.v1"
    assert (message["subject"], message["source"]) == (REQUEST_SLOT, "/milepost/client/test")
    for name, value in message.items():
        assert name.islower() and name.isalnum()
        assert name == "data" or isinstance(value, str | int | bool)


def test_fields_of_a_newer_writer_pass() -> None:
    message = raw(somethingnew="x")
    message["data"] = {**message["data"], "newer": {"a": 1}}  # type: ignore[dict-item]
    assert read(message).body == requested()  # type: ignore[attr-defined]


def test_a_type_of_a_newer_writer_is_told_apart_from_rubbish() -> None:
    with pytest.raises(UnknownType):
        read(raw(type="io.milepost.RunRequested.v2"))


@pytest.mark.parametrize(
    "changes",
    [
        {"specversion": "0.3"}, {"id": ...}, {"id": "x"}, {"id": "A" * 32}, {"source": ""},
        {"source": "milepost"}, {"source": "/milepost/tools/t"}, {"source": "/other/client/t"}, {"type": ""},
        {"subject": "a.b"}, {"subject": "other"}, {"time": "yesterday"}, {"time": "2026-11-21T12:00:00"}, 
        {"time": "9999-12-31T23:59:59Z"},
        {"time": ...}, {"datacontenttype": "text/xml"}, {"tenant": "*"}, {"tenant": ""}, {"run": "x"}, {"run": 7},
        {"data": ...}, {"data": None}, {"data": []}, {"data": {}}, {"data": "x"},
    ],
)  # fmt: skip
def test_whatever_is_wrong_with_an_envelope_is_a_protocol_error(changes: dict[str, object]) -> None:
    with pytest.raises(ProtocolError) as error:
        read(raw(**changes))
    assert not isinstance(error.value, UnknownType)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_other_json_is_a_protocol_error(value: object) -> None:
    with pytest.raises(ProtocolError):
        decode(json.dumps(value).encode())


@given(st.binary(max_size=200))
def test_random_bytes_are_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@settings(max_examples=200)
@given(st.data())
def test_a_fact_with_a_byte_changed_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    message = bytearray(encode(request_fact()))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        fact = decode_fact(bytes(message))
    except ProtocolError:
        return
    assert decode_fact(encode(fact)) == fact


def test_a_fact_is_no_order_and_an_order_no_fact() -> None:
    with pytest.raises(ProtocolError):
        decode_order(encode(request_fact()))
    with pytest.raises(ProtocolError):
        decode_fact(encode(order_for(READ)))


@pytest.mark.parametrize(
    ("event", "slot", "role"),
    [
        (requested(), REQUEST_SLOT, "llm"),
        (CancelRequested(by="x"), CANCEL_SLOT, "tools"),
        (TurnReleased(after="x"), "release", "client"),
        (ToolReturned(command=READ, result=ToolResult(text="x")), "c" * 32, "llm"),
        (ToolReturned(command=READ, result=ToolResult(text="x")), "c" * 32, "conductor"),
        (StepFailed(command=READ, failure=failure()), "c" * 32, "llm"),
        (RunCompleted(command=EndRun(outcome="completed"), answer="x"), END_SLOT, "llm"),
        (requested(), "another", "client"),
        (CancelRequested(by="x"), "another", "client"),
        (RunCompleted(command=EndRun(outcome="completed"), answer="x"), "c" * 32, "conductor"),
    ],
)
def test_who_may_not_say_it_or_not_there_is_refused(event, slot: str, role) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ProtocolError):
        fact_of(event, run_of(), slot, role=role)


def test_memory_and_recorder_may_cancel_and_the_conductor_may_give_up_a_command() -> None:
    assert speakers(CancelRequested(by="x")) == {"client", "memory", "recorder"}
    assert speakers(StepFailed(command=READ, failure=failure())) == {"tools", "conductor"}


def test_each_answer_is_of_one_role_and_every_command_can_be_answered() -> None:
    answerable = set()
    for event in EVENTS:
        if not issubclass(event, Answered) or event is StepFailed:
            continue
        commands = [cls for cls in COMMANDS if cls in _named(event.model_fields["command"].annotation)]
        assert {command.role for command in commands} == {event.role}, event
        answerable.update(commands)
    assert answerable == set(COMMANDS)


def _named(annotation: object) -> tuple[object, ...]:
    return typing.get_args(annotation) or (annotation,)


@pytest.mark.parametrize(
    ("event", "command"),
    [(ToolReturned, GENERATE), (ApprovalGranted, READ), (RunCompleted, READ),
     (ToolReturned, PlanCall(call=call(), card_hash="h", host="x")), (RunCompleted, StartTimer(at=NOW, purpose="deadline"))],
)  # fmt: skip
def test_an_answer_of_the_wrong_kind_is_refused(event, command) -> None:  # type: ignore[no-untyped-def]
    message = orjson.loads(encode(fact_of(StepFailed(command=command, failure=failure()), run_of(), "c" * 32)))
    filler = {"result": {"text": "x"}, "by": "eve", "approval_hash": "h", "answer": "x"}
    message["data"] = {**filler, "kind": event.__name__, "command": message["data"]["command"]}
    message["type"] = type_of(event)
    with pytest.raises(ProtocolError):
        decode_fact(orjson.dumps(message))


@pytest.mark.parametrize("text", ["NUL \x00", "lone \ud800"])
def test_what_a_reader_would_refuse_is_refused_when_it_is_written(text: str) -> None:
    event = ToolReturned(command=READ, result=ToolResult(text=text))
    fact = new_fact(event, run=run_of(), tenant=TENANT, slot="c" * 32, source=source_of("tools", "t"), time=NOW)
    with pytest.raises(ProtocolError):
        encode(fact)


def test_the_deepest_arguments_of_a_call_fit_into_every_message_that_carries_them() -> None:
    deep: dict[str, object] = {}
    for _ in range(OBJECT_DEPTH - 2):
        deep = {"x": deep}
    card = CLOCK.model_copy(update={"parameters": deep})
    run = ready(None, card)
    (command,) = run.say(call("clock", **deep))
    (generate,) = run.returns(command)  # type: ignore[arg-type]
    order = order_for(generate)
    assert decode_order(encode(replace(order, material=material(generate, run.state))))


def test_times_keep_their_moment() -> None:
    fact = request_fact(time=datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC))
    assert decode_fact(encode(fact)).time == fact.time
