"""Optional arguments that nobody spoke of are dropped; what was asked for, and what is required, stays."""

from __future__ import annotations

import pytest

from schemas.messages import Message, Prompt
from schemas.tools import ToolCall, ToolCard
from services.llm.grounding import grounded, invented, spoken
from services.llm.replies import Reply

TEXT = {"type": "string"}
PARAMETERS: dict[str, object] = {
    "type": "object",
    "properties": {
        "InstanceId": TEXT, "Months": {"type": "integer"}, "Mode": {"enum": ["Keep", "Stop"]}, "ForceStop": {"type": "boolean"},
        "NextToken": TEXT, "Ids": {"type": "array", "items": TEXT}, "Zone": TEXT, "Note": TEXT,
    },
    "required": ["InstanceId"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said", "kept"),
    [
        ({"InstanceId": "invented"}, "stop it", {"InstanceId"}),
        ({"Months": 3}, "renew for 3 months", {"Months"}),
        ({"Months": 12}, "renew it", set()),
        ({"Months": 3}, "renew it for three months", {"Months"}),
        ({"Months": 2}, "续费两个月", {"Months"}),
        ({"Months": 1}, "renew it for a month", {"Months"}),
        ({"Months": 1}, "renew a server", set()),
        ({"Months": 1000}, "1,000 please", {"Months"}),
        ({"Months": 2500000}, "2,500,000 or 2500000", {"Months"}),
        ({"Months": 1234567.5}, "1234567.5", {"Months"}),
        ({"NextToken": "abc123"}, "which servers do I have?", set()),
        ({"Ids": ["i-1234567890"]}, "我有哪些ECS实例？", set()),
        ({"Ids": ["i-bp1"]}, "look at i-bp1", {"Ids"}),
        ({"ForceStop": True}, "shut it down", set()),
        ({"ForceStop": True}, "force it down", {"ForceStop"}),
        ({"Mode": "Keep"}, "shut it down", {"Mode"}),
        ({"Zone": "Asia/Tokyo"}, "time in tokyo?", {"Zone"}),
        ({"NextToken": "nextToken"}, "我有哪些ECS实例？", set()),
        ({"Note": "MyECSInstance"}, "我有哪些ECS实例？", set()),
        ({"Note": "myocardial"}, "心脏怎么样？", {"Note"}),
        ({"Zone": "cn-hangzhou"}, "杭州有哪些？", {"Zone"}),
        ({"Note": "The disk of web-1 is nearly full"}, "tell them the disk is full", {"Note"}),
        ({"Note": ""}, "stop it", set()),
    ],
)
def test_what_occurs_in_no_text_goes(arguments: dict[str, object], said: str, kept: set[str]) -> None:
    assert set(spoken(arguments, PARAMETERS, said)) == kept


def test_results_count_as_spoken_and_a_call_that_would_break_its_schema_stays() -> None:
    both = {**PARAMETERS, "minProperties": 2}
    call = ToolCall(id="c", name="stop", arguments={"InstanceId": "i-1", "NextToken": "abc123"})
    cards = [ToolCard(name="stop", description="stops", parameters=parameters) for parameters in (PARAMETERS, both)]
    messages = (Message(role="user", content="go on"), Message(role="tool", content="more: abc123", name="list"))

    def left(card: ToolCard, *said: Message) -> set[str]:
        return set(grounded(Reply("", (call,)), Prompt(messages=said, tools=(card,))).calls[0].arguments)

    assert left(cards[0], *messages) == {"InstanceId", "NextToken"}
    assert left(cards[0], messages[0]) == {"InstanceId"}
    assert left(cards[0], messages[0], Message(role="user", content="abc123 is no token", name="parser")) == {"InstanceId"}
    assert left(cards[0], Message(role="system", content="The token is abc123."), messages[0]) == {"InstanceId", "NextToken"}
    assert left(cards[1], messages[0]) == {"InstanceId", "NextToken"}


def test_only_required_arguments_count_as_invented_and_the_worst_call_counts() -> None:
    card = ToolCard(name="stop", description="stops", parameters=PARAMETERS)
    calls = (
        ToolCall(id="a", name="stop", arguments={"InstanceId": "i-77", "NextToken": "abc123"}),
        ToolCall(id="b", name="stop", arguments={"InstanceId": "i-78"}),
    )

    def counted(said: str) -> int:
        return invented(Reply("", calls), Prompt(messages=(Message(role="user", content=said),), tools=(card,)))

    assert [counted(said) for said in ("stop it", "stop i-77", "stop i-77 and i-78")] == [1, 1, 0]


@pytest.mark.parametrize(
    ("value", "said", "made_up"),
    [
        ("368 * 27", "What is 368 times 27?", 0),
        ("kilometers", "26 miles in kilometres", 0),
        ("i-1234", "renew my server", 1),
        ("Hangzhou", "杭州天气怎么样？", 0),
        ("i-1234", "续费我的服务器", 1),
        (7, "a week", 1),
        (True, "do it", 0),
        ([], "do it", 0),
        (["Lagos", "Kyoto"], "from lagos", 0),
    ],
)
def test_a_required_value_needs_a_hint_only(value: object, said: str, made_up: int) -> None:
    card = ToolCard(name="do", description="does", parameters={"type": "object", "properties": {"x": {}}, "required": ["x"]})
    call = ToolCall(id="a", name="do", arguments={"x": value})
    assert invented(Reply("", (call,)), Prompt(messages=(Message(role="user", content=said),), tools=(card,))) == made_up
