"""Arguments from nowhere: what counts as named, in English and Chinese, and what does not."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.grounding import NAMED_AT_MOST, Source, sources_of, ungrounded
from runtime.numerals import normalised, parted, quantities
from schemas.events import MemoryRecalled, Turn, TurnResult
from schemas.tools import ToolCall, ToolCard
from tests.support.builders import ready, spec
from tests.support.history import TOLD, remembered

PERIOD = {
    "InstanceId": {"type": "string"},
    "Period": {"type": "integer", "description": "How long."},
    "PeriodUnit": {"type": "string", "enum": ["Week", "Month"], "default": "Month"},
}


def nowhere(arguments: dict[str, object], *said: str | Source, **properties: object) -> tuple[str, ...]:
    """What of the arguments was not named. properties: the tool's schema by argument."""
    card = ToolCard(name="t", description="d", parameters={"type": "object", "properties": properties}, effect="write")
    sources = [each if isinstance(each, Source) else Source(each) for each in said]
    return ungrounded(ToolCall(id="c", name="t", arguments=arguments), card, sources)


# --- amounts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "for 3 months"), (3, "for three months"), (3, "续费三个月"), (3, "续费3个月"), (3, "续费３个月"),
        (3, "3-month term"),
        (3.0, "3 of them"), ("3", "three of them"), (3, "Period=3"), (3, '{"period": 3, "unit": "Month"}'), (-5, "-5 degrees"),
        (1, "for a month"), (1, "another week"), (1, "one more"), (1, "续费一年"), (1, "一个月"), (2, "两台服务器"),
        (2, "twice"),
        (12, "a dozen"), (24, "two dozen"), (25, "twenty-five"), (120, "one hundred and twenty"), (2026, "year 2026"),
        (1000, "1,000 yuan"), (1000, "1k"), (1500, "1.5k"), (10000, "1万"), (15000, "1.5万"), (200000, "二十万"),
        (350, "三百五十"),
        (1000000, "one million"), (2000000, "2 million"), (0.5, "50%"), (50, "50%"), (19.99, "$19.99"), (100, "¥100"),
        (100, "100元"), (40, "40GB"), (40, "40 GB"), (300, "[100,200,300]"), (12, "十二台"), (5, "把数量改成五。"),
        (2026, "二〇二六年"),
        (1234567890123456, "account 1234567890123456"), (0, "zero"), (10, "10.0"), (15, "十五"), (21, "二十一号"),
        (5, "scale to 5. Then stop"), (1, "just one"), (1, "the one month plan"), (3, "这三台"), (3, "Renew it.\n3"),
        (8, "7,8,9"),
    ],
)  # fmt: skip
def test_an_amount_that_was_said(value: object, said: str) -> None:
    assert nowhere({"n": value}, said) == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "for 30 months"), (3, "for 13 months"), (3, "i-3abc"), (3, "web-3"), (3, "三亚的服务器"), (1, "帮我续费一下"),
        (1, "renew a server"),
        (4, "四川"), (3, "10.0.0.3"), (3, "3.5"), (35, "3.5"), (12, "2026-12-01"), (1, "once it is done"), (7, ""),
        ("7", "eight"),
        (1, "the one in Hangzhou"), (1, "this one"), (1, "这一台"), (1, "快一点"), (3, "第三台"), (500, "1,500 units"),
        (1, "1. stop it 2. start it"), (2, "1. stop it 2. start it"), (2, "a list:\n1) this\n 2) that"),
        (1234567, "+49 170 1234567"),
        (1000, "100"), (100, "1,000"), (10, "1万"), (3, "3abc9"), (30, "half a month"), (90, "three months"),
    ],
)  # fmt: skip
def test_an_amount_that_was_not_said(value: object, said: str) -> None:
    assert nowhere({"n": value}, said) == ("n",)


@pytest.mark.parametrize(
    ("value", "unit", "said", "named"),
    [
        (6, "Month", "half a year", True), (6, "Month", "续费半年", True), (12, "Month", "for a year", True),
        (12, "Month", "一年", True),
        (18, "Month", "一年半", True), (18, "Month", "1.5 years", True), (3, "Month", "a quarter", True),
        (24, "Month", "两年", True),
        (3, "Month", "3 days", False), (3, "Month", "3天", False), (1, "Year", "12 months", True), (2, "Week", "14 days", True),
        (14, "Day", "two weeks", True), (1, "Month", "a week", False), (3, "Month", "3", True),
        (2, "Month", "for 2 months", True),
    ],
)  # fmt: skip
def test_a_length_of_time_is_counted_in_the_unit_of_its_argument(value: int, unit: str, said: str, named: bool) -> None:
    unit_schema = {"type": "string", "enum": ["Day", "Week", "Month", "Year"]}
    assert nowhere({"Period": value, "PeriodUnit": unit}, said, PeriodUnit=unit_schema) == (() if named else ("Period",))
    assert nowhere({"Period": value}, said, PeriodUnit={**unit_schema, "default": unit}) == (() if named else ("Period",))


@pytest.mark.parametrize(
    ("value", "said", "named"),
    [("Month", "for 2 months", True), ("Month", "三个月", True), ("week", "two weeks", True), ("Month", "two weeks", False),
     ("Month", "renew it", False)],
)  # fmt: skip
def test_a_unit_of_time_is_named_with_an_amount(value: str, said: str, named: bool) -> None:
    assert nowhere({"PeriodUnit": value}, said) == (() if named else ("PeriodUnit",))


@pytest.mark.parametrize(
    ("name", "value", "said", "named"),
    [("months", 12, "a year", True), ("duration_days", 14, "two weeks", True), ("TimeoutSeconds", 90, "1.5 minutes", True),
     ("months", 3, "3 days", False), ("timeout_minutes", 30, "half an hour", True), ("hours", 2, "两个小时", True)],
)  # fmt: skip
def test_the_name_of_an_argument_may_say_its_unit(name: str, value: int, said: str, named: bool) -> None:
    assert nowhere({name: value}, said) == (() if named else (name,))


def test_a_description_may_say_the_unit_but_is_not_taken_at_its_word() -> None:
    described = {"type": "integer", "description": "The subscription in months."}
    assert nowhere({"Length": 12}, "for a year", Length=described) == ()
    assert nowhere({"Length": 3}, "3 days", Length=described) == ()
    assert nowhere({"Length": 6}, "half a year", Length={"type": "integer", "description": "Months or years."}) == ("Length",)


@pytest.mark.parametrize(
    ("name", "value", "said", "named"),
    [("ticket_id", 5, "in 5 minutes", False), ("OrderId", "5", "wait 5 days", False), ("ids", [5], "5 hours", False),
     ("ticket_id", 5, "ticket 5", True), ("issue_number", 45, "close issue #45", True), ("order_id", 7, "take 7", True),
     ("amount", 1001, "pay bill 1001", False), ("total", "1001", "invoice no. 1001", False),
     ("price", 10023, "订单10023", False),
     ("amount", 12345678, "pay bill 12345678", False), ("amount", 50, "bill 1001: pay 50", True),
     ("n", 1001, "bill 1001", True), ("id", "12", "open /orders/12", True), ("id", "12", "open /orders/13", False),
     ("count", 1, "create a new bucket", True), ("replicas", 1, "this one", False), ("count", 1, "a few servers", False),
     ("count", 2, "a server", False), ("amount", 1, "pay a bill", False)],
)  # fmt: skip
def test_the_name_of_an_argument_may_say_what_its_number_is(name: str, value: object, said: str, named: bool) -> None:
    assert (nowhere({name: value}, said) == ()) is named


# --- identifiers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("i-bp1f8k2m9x4q7web01", "renew i-bp1f8k2m9x4q7web01 please"), ("i-bp1f8k", "RENEW I-BP1F8K!"),
        ("i-bp1f8k", "续费i-bp1f8k三个月"),
        ("i-bp1f8k", "ｉ－ｂｐ１ｆ８ｋ"), ("i-bp1f8k", "i‑bp1f8k"), ("cn-hangzhou", "in cn hangzhou"),
        ("cn-hangzhou", '"RegionId":"cn-hangzhou"'),
        ("web_01", "the server web-01"), ("webshop", "the Web Shop"), ("WebShop", "web shop"),
        ("Ann@Example.com", "mail ann@example.com."),
        ("example.com", "see https://example.com/shop"), ("https://example.com/a", "open https://example.com/a/ now"),
        ("/var/log/app", "look at /var/log/app."), ("10.0.0.7", "host 10.0.0.7:8080"), ("138-0013-8000", "call 13800138000"),
        ("13800138000", "拨打 138 0013 8000"), ("+86 138 0013 8000", "+86-138-0013-8000"), ("bucket", "oss://bucket/key.txt"),
        ("杭州测试机", "把服务器改名为杭州测试机"), ("Administrator", "as administrator"), ("PO-5512", "order po 5512"),
        ("v1.2.3", "release v1.2.3"),
        ("i-1,i-2", "i-1 and i-2"), ('["i-1","i-2"]', "i-2, i-1"), ("ann", "ann@example.com"), ("40GB", "40 GB"),
        ("3 months", "three months"),
        ("", "nothing"), ("   ", "nothing"), ("AKIA1234", "key:AKIA1234;"), ("张三", "转账给张三"), ("小王", "给小王发消息"),
        ("cn-hangzhou", "在杭州开一台"), ("us-east-1", "somewhere in Virginia"), ("ap-southeast-1", "Singapore, please"),
        ("https://example.com", "open example.com"), ("http://example.com/", "open https://example.com"),
        ("web-1, web-2", "web-2 and web-1"), ("ann, bob", "to Bob and Ann"), ("i-a1+i-b2", "i-a1+i-b2"),
        ("13800138000", "+86 138 0013 8000"),
    ],
)  # fmt: skip
def test_an_identifier_that_was_said(value: str, said: str) -> None:
    assert nowhere({"x": value}, said) == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("i-bp1f8k", "i-bp1f8k2"), ("i-bp1f8k", "ii-bp1f8k"), ("i-bp1f8k", "i-bp1f8k-old"), ("i-1", "i-12 and i-11"),
        ("i-12", "i 1 2"),
        ("example.com", "example.com.evil.org"), ("example.com", "notexample.com"), ("/data", "rm /data/logs"),
        ("/logs", "/data/logs"),
        ("https://example.com/a", "https://example.com/a/b"), ("b@example.com", "ab@example.com"),
        ("cn-hangzhou", "in Beijing"),
        ("webshop", "webshops"),
        ("10.0.0.7", "10.0.0.70"), ("i-1,i-3", "i-1 and i-2"), ('["i-1","i-3"]', "i-1"), ("3 months", "3 weeks"),
        ("shanghai", "in Hangzhou"),
        ("v1.2", "v1.2.3"), ("hangzhou", "cn-hangzhou"),
        ("example.com", "www.example.com"), ("admin", "administrator"), ("13800138000", "138001380001"),
        ("web-prod, db-prod", "web-prod"), ("web-prod db-prod", "db-prod"), ("ann, eve", "to Ann"), ("00000012", "account 12"),
        ("5e3", "5000"), ("007", "7"), ("张三", "用户张三丰的账单"), ("ann@example.com", "j+ann@example.com"),
        ("1234567", "+49 170 1234567"), ("b2", "use plan b 2 times"), ("cn-hangzhou", "move to cn-hangzhou-b"),
        ("https://example.com", "www.example.com"),
    ],
)  # fmt: skip
def test_an_identifier_that_was_not_said(value: str, said: str) -> None:
    name = "x[1]" if value.startswith("[") else "x"
    assert nowhere({"x": value}, said) == (name,)


@pytest.mark.parametrize(
    ("value", "said", "named"),
    [
        ("2026-12-01", "on December 1, 2026", True), ("2026-12-01", "Dec 1st", True), ("2026-12-01", "1 Dec", True),
        ("2026-12-01", "2026年12月1日", True), ("2026-12-01", "12月1号", True), ("2026-12-01", "20261201", True),
        ("2026-12-01", "12/1/2026", True), ("2026-12-01", "1.12.2026", True), ("2026-12-01", "2026/12/01", True),
        ("2026-12-01", "Dec 2", False), ("2026-12-01", "2027-12-01", False), ("2026-12-01", "tomorrow", False),
        ("2026-12-01T14:30:00Z", "December 1 at 2:30 pm", True), ("2026-12-01T14:30:00Z", "12月1日下午两点半", True),
        ("2026-12-01 14:30", "2026-12-01 14:30:59", True), ("2026-12-01T14:30:00+08:00", "Dec 1 at 3 pm", False),
        ("2026-12-01T00:00:00Z", "by 2026-12-01", True), ("14:30", "at 14:30", True), ("08:00", "早上8点", True),
        ("20:15", "晚上八点一刻", True),
        ("12:00", "at noon", True), ("08:00", "at 8 pm", False),
    ],
)  # fmt: skip
def test_dates_and_times_are_compared_as_such(value: str, said: str, named: bool) -> None:
    assert nowhere({"At": value}, said) == (() if named else ("At",))


# --- what is not checked ------------------------------------------------------------------------------


def test_what_the_card_offers_needs_nobody_to_name_it() -> None:
    properties: dict[str, object] = {
        "unit": {"enum": ["Week", "Month"]}, "size": {"type": "integer", "default": 40}, "kind": {"const": "cloud_ssd"},
        "mode": {"anyOf": [{"enum": ["fast-1"]}, {"type": "null"}]}, "zone": {"$ref": "#/$defs/zone"},
    }  # fmt: skip
    card = ToolCard(
        name="t", description="d", effect="write",
        parameters={"type": "object", "properties": properties, "$defs": {"zone": {"enum": ["cn-hangzhou-b"]}}},
    )  # fmt: skip
    offered = {"unit": "Month", "size": 40, "kind": "cloud_ssd", "mode": "fast-1", "zone": "cn-hangzhou-b",
    "dry": True,
               "none": None, "text": "true"}  # fmt: skip
    assert ungrounded(ToolCall(id="c", name="t", arguments=offered), card, ()) == ()
    others = {"unit": "Month", "size": 41, "kind": "cloud_hdd", "mode": "fast-2", "zone": "cn-hangzhou-c", "dry": False}
    assert ungrounded(ToolCall(id="c", name="t", arguments=others), card, ()) == ("size", "kind", "mode", "zone")


@pytest.mark.parametrize(
    "text",
    ["The web shop of the spring sale", "Restart it when the backup is done, please.", "webshop",
    "Phase 2 of the move, 50% done",
     "请在备份完成之后重启服务器，谢谢。", "echo 'utf-8 is fine' && sleep 30 > /dev/null", "2026-12-01: moved", "line\nline",
    "<b>this</b> and/or that at 2026-12-01T16:00:00Z"],
)  # fmt: skip
def test_free_text_is_the_models_own(text: str) -> None:
    assert nowhere({"Description": text}, "describe it") == ()
    assert nowhere({"command_content": text}, "run it") == ()


@pytest.mark.parametrize(
    "text",
    ["Ask ann@example.com about it", "See https://example.com/x for more", "Moved from i-bp1f8k to another", "Call 13800138000",
     "请联系 ann@example.com，谢谢", "copy vol-0abc to the new one", "ping 10.0.0.7", "account a1b2c3d4e5f6",
     "transfer to DE89370400440532013000", "rm -rf /data/prod", "清空/data"],
)  # fmt: skip
def test_an_identifier_in_free_text_must_have_been_named(text: str) -> None:
    assert nowhere({"Description": text}, "describe it") == ("Description",)
    assert nowhere({"Description": text}, f"say: {text}") == ()


def test_words_with_spaces_are_free_text_whatever_the_argument_is_called() -> None:
    assert nowhere({"InstanceName": "the shop of the spring sale"}, "rename it") == ()
    assert nowhere({"InstanceName": "shop-2"}, "rename it") == ("InstanceName",)


def test_what_is_not_understood_passes() -> None:
    """Known gaps: a person's name of two words, a schedule."""
    assert nowhere({"to": "John Smith", "at": "0 3 * * *"}, "do it") == ()


# --- structure ----------------------------------------------------------------------------------------


def test_nested_arguments_are_named_by_their_place() -> None:
    arguments: dict[str, object] = {
        "tags": [{"key": "team", "value": "web"}, {"key": "cost", "value": "cc-77"}],
        "network": {"vpc": "vpc-1", "ports": [80, 443]},
        "InstanceIds": '["i-1", "i-2"]',
    }
    said = "tag it team web; vpc-1; port 443; i-1"
    assert nowhere(arguments, said) == ("tags[1].key", "tags[1].value", "network.ports[0]", "InstanceIds[1]")


def test_keys_that_no_schema_fixes_are_values() -> None:
    labels: dict[str, object] = {"type": "object", "additionalProperties": {"type": "string"}}
    assert nowhere({"labels": {"team": "web"}}, "for the web", labels=labels) == ("labels.team",)
    assert nowhere({"labels": {"team": "web"}}, "team web", labels=labels) == ()
    strange: dict[str, object] = {"i-made-up-9": True, "team": "web"}
    assert nowhere({"labels": strange}, "for the web") == ("labels.i-made-up-9",)
    fixed: dict[str, object] = {"type": "object", "properties": {"i-made-up-9": {"type": "boolean"}}}
    assert nowhere({"labels": {"i-made-up-9": True}}, "", labels=fixed) == ()


def test_schemas_of_nested_arguments_count() -> None:
    item = {"type": "object", "properties": {"size": {"type": "integer", "default": 40}, "kind": {"enum": ["ssd-1"]}}}
    disks = {"type": "array", "items": item}
    assert nowhere({"disks": [{"size": 40, "kind": "ssd-1"}, {"size": 41, "kind": "ssd-1"}]}, "", disks=disks) == (
        "disks[1].size",
    )


def test_so_many_names_are_told_and_no_more() -> None:
    assert len(nowhere({"ids": [f"i-{n}" for n in range(500)]}, "")) == NAMED_AT_MOST


# --- sources ------------------------------------------------------------------------------------------


def test_a_result_names_what_its_own_call_had_not_brought_in() -> None:
    asked = ToolCall(id="r", name="describe", arguments={"InstanceId": "i-made", "PageSize": 50})
    result = Source("no i-made, but i-real; 50 of 77", asked)
    assert nowhere({"a": "i-real", "b": "i-made", "c": 77, "d": 50}, result) == ("b", "d")
    listed = Source("i-made, i-real", ToolCall(id="l", name="list", arguments={}))
    assert nowhere({"b": "i-made"}, result, listed) == ()
    assert nowhere({"b": "i-made"}, result, "show me i-made") == ()


def test_a_result_names_nothing_that_its_call_brought_in_as_parts() -> None:
    asked = ToolCall(id="r", name="find", arguments={"suffix": "123", "name": "abc", "page": 7})
    assert nowhere({"id": "abc-123"}, Source("looked for abc-123: nothing", asked)) == ("id",)
    assert nowhere({"id": "abc-7"}, Source("found abc-7", asked)) == ()  # the number of a page is no part of a name


def test_a_result_of_an_earlier_turn_counts_if_it_lists() -> None:
    echo, listed = Source("i-made-1 not found", earlier=True), Source('[{"id":"i-real-1"},{"id":"i-real-2"}]', earlier=True)
    dated = Source('{"id":"i-made-1","at":"2026-12-01T16:00:00Z"}', earlier=True)
    parsed = Source('{"url":"https://i-made-1/x-1y2z","host":"i-made-1","path":"/x-1y2z"}', earlier=True)
    assert nowhere({"id": "i-made-1"}, "renew it", echo, dated, parsed) == ("id",)
    assert nowhere({"id": "i-real-1"}, "renew it", echo, listed) == ()
    assert nowhere({"id": "i-made-1"}, "show i-made-1, then renew it", echo) == ()


def test_an_echo_of_an_earlier_turn_names_nothing_in_a_run() -> None:
    turn = Turn(run="r1", task="Show it.", answer="It is off.", results=(TurnResult(tool="show", text="i-made-1 is off"),))
    run = remembered(spec())
    sources = sources_of(replace(run.state, history=(turn,)))
    assert Source("i-made-1 is off", earlier=True) in sources
    assert nowhere({"id": "i-made-1"}, *sources) == ("id",)


def test_the_sources_of_a_run_are_its_people_and_its_results() -> None:
    run = remembered(spec(instructions="You manage cn-hangzhou."))
    assert run.state.request
    sources = sources_of(run.state)
    assert [source.text for source in sources if source.call or source.earlier] == ["a cat"]
    said = "\n".join(source.text for source in sources if not source.earlier)
    for words in (run.request.task, "cn-hangzhou", "Draw a cat.", "blob:cat-1", "What is a price?", "Hangzhou"):
        assert words in said
    for turn in (*TOLD.history, *TOLD.similar):
        assert turn.answer not in said  # the model's own words
    assert TOLD.summary
    assert TOLD.summary.text not in said


def test_passages_and_the_models_own_words_name_nothing() -> None:
    run = ready()  # a passage is part of it
    assert run.state.passages
    run.say(text="Take i-77.")
    assert isinstance(run.log[-2].fact.body, MemoryRecalled)
    said = "\n".join(source.text for source in sources_of(run.state))
    assert run.state.passages[0].text not in said
    assert "i-77" not in said


# --- robustness ---------------------------------------------------------------------------------------

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e9, 1e9, allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(WORDS, JSON, max_size=4), WORDS)
def test_whatever_the_arguments_are_it_answers(arguments: dict[str, object], said: str) -> None:
    found = nowhere(arguments, said)
    assert len(set(found)) == len(found)


@given(st.lists(st.from_regex(r"[a-z]{1,4}-[a-z0-9]{3,18}", fullmatch=True), min_size=1, max_size=4), st.text(max_size=40))
def test_what_was_said_word_for_word_is_always_named(identifiers: list[str], words: str) -> None:
    assert nowhere({"ids": identifiers}, f"{words} {' '.join(identifiers)} ") == ()


@given(st.integers(min_value=0, max_value=10**9), st.sampled_from(["take {} of them", "取 {} 个", '{{"n": {}}}', "n={}."]))
def test_a_number_in_digits_is_always_named(number: int, sentence: str) -> None:
    assert nowhere({"n": number}, sentence.format(number)) == ()


HOSTILE = (
    "1" * 50_000, "1," * 25_000, "9" * 50_000 + "万", "billion " * 6_000, "亿" * 20_000, "one" + " " * 50_000 + "two",
    "a+-" * 20_000,
    "i-" * 25_000, "2026-" * 10_000, "(" * 20_000, "[" * 20_000, "jan" * 15_000, "1 " * 25_000, "一" * 50_000, "@" * 50_000,
    "\u202e" * 1_000, "\ufdfa" * 1_000,
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:6].encode("unicode_escape").decode())
def test_no_text_keeps_it_busy(text: str) -> None:
    began = time.perf_counter()
    arguments = {"n": 7, "id": "i-77", "at": "2026-12-01T14:30", "text": text, "x": text[:200], "unit": "Month", "list": text}
    nowhere(arguments, text)
    nowhere(arguments, Source(text, ToolCall(id="r", name="r", arguments={"q": text})))
    assert time.perf_counter() - began < 5.0


def test_long_sources_take_no_more_than_their_length() -> None:
    row = '{"InstanceId":"i-bp1f8k2m9x4q7web%04d","Cpu":%d,"Expired":"2026-12-01T16:00Z"}'
    source = Source(",".join(row % (n, n % 64) for n in range(160)), ToolCall(id="l", name="list", arguments={}))
    began = time.perf_counter()
    for _ in range(20):
        assert nowhere({"InstanceId": "i-bp1f8k2m9x4q7web9999", "Period": 77}, source, **PERIOD) == ("InstanceId", "Period")
    assert time.perf_counter() - began < 2.0  # 12,000 characters each time


AMOUNTS = st.sampled_from(re.findall(
    r"[^|]+",
    "1.|2.|3|5k|%|1,000|[1,2]|{|}|\"|two|three|hundred|and|a|an|half|another|month|months|year|no|no.|number|#|account|order|id|"
    "one|dozen|三|三个|个月|月|半|第|万|1.5|2)|stop|cny|)|.|-3|+|+86|13800138000|10.0.0.1|more|full|2026-12-01|:|name|\n| |  ",
))  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(st.lists(st.tuples(AMOUNTS, st.sampled_from(["", " ", "\n"])), max_size=6), max_size=5))
def test_parts_of_texts_have_the_amounts_of_the_texts_together(drawn: list[list[tuple[str, str]]]) -> None:
    texts = [normalised("".join(word + space for word, space in text)) for text in drawn]
    assert {each for part in parted(texts) for each in quantities(part)} == set(quantities("\n".join(texts)))
