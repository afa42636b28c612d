"""The small tools: dates, texts, data, networks, QR codes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tool_adapters.builtin import builtin_tools
from tool_adapters.tool import CallContext, InvalidArguments

CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=5)
TOOLS = {each.card.name: each for each in builtin_tools()}


async def called(name: str, **arguments: object) -> object:
    """What a program reads of a tool's answer."""
    result = await TOOLS[name].call(arguments, CONTEXT)
    return json.loads(result.text) if result.parts[0].kind == "json" else result.text


@pytest.mark.parametrize(
    ("start", "end", "days", "working"),
    [
        ("2026-11-21", "2027-01-01", 41, 29),
        ("2026-11-23", "2026-11-28", 5, 5),  # Monday to Saturday
        ("2026-11-28", "2026-11-23", -5, -5),
        ("2024-02-28", "2024-03-01", 2, 2),
        ("2026-11-21", "2026-11-21", 0, 0),
    ],
)
async def test_days_between(start: str, end: str, days: int, working: int) -> None:
    told = await called("date_difference", start=start, end=end)
    assert told == {"days": days, "weeks": round(days / 7, 2), "working_days": working}


@pytest.mark.parametrize(
    ("arguments", "date", "weekday"),
    [
        ({"start": "2026-01-31", "months": 1}, "2026-02-28", "Saturday"),
        ({"start": "2024-02-29", "years": 1}, "2025-02-28", "Friday"),
        ({"start": "2026-03-31", "months": -13}, "2025-02-28", "Friday"),
        ({"start": "2026-11-21", "days": 90}, "2027-02-19", "Friday"),
        ({"start": "2026-11-21", "weeks": -2}, "2026-11-07", "Saturday"),
    ],
)
async def test_date_arithmetic(arguments: dict[str, object], date: str, weekday: str) -> None:
    assert await called("date_add", **arguments) == {"date": date, "weekday": weekday}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("date_difference", {"start": "tomorrow", "end": "2026-01-01"}),
        ("date_add", {"start": "2026-01-01", "years": 9000}),
        ("json_query", {"document": "{", "expression": "a"}),
        ("json_query", {"document": "{}", "expression": "a["}),
        ("json_query", {"document": "1", "expression": "|".join(["[@,@]"] * 35)}),
        ("json_query", {"document": "1", "expression": "|".join([*["[@,@]"] * 35, "to_string(@)"])}),
        ("json_query", {"document": str([1] * 50_000), "expression": "[@,@]|[@,@]|[@,@]"}),
        ("json_query", {"document": "1", "expression": "[" * 5000}),
        ("convert_data", {"document": "a: [1", "to": "json"}),
        ("convert_data", {"document": "a: &x [1, 1]\nb: [*x, *x]", "to": "json"}),
        ("convert_data", {"document": "!!python/object/apply:os.getcwd []", "to": "json"}),
        ("encode_text", {"text": "no base64!", "form": "base64", "decode": True}),
        ("encode_text", {"text": "zz", "form": "hex", "decode": True}),
        ("ip_network", {"network": "300.1.1.1/8"}),
        ("parse_url", {"url": "not a url"}),
        ("parse_url", {"url": "http://a:99999/"}),
        ("number_statistics", {"numbers": []}),
        ("qr_code", {"text": "x" * 5000}),
        ("text_difference", {"old": "x" * 30_000, "new": "y" * 30_000}),
        ("text_difference", {"old": "x\n" * 1500, "new": "y\n" * 1500}),
    ],
)
async def test_what_cannot_be_is_said(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidArguments):
        await TOOLS[name].call(arguments, CONTEXT)


async def test_words_are_counted_in_both_languages() -> None:
    told = await called("text_statistics", text="Don't panic. 你好，世界。\nOK")
    assert told == {"characters": 22, "characters_without_spaces": 19, "words": 7, "sentences": 2, "lines": 2}


async def test_a_difference_is_shown_by_line() -> None:
    assert await called("text_difference", old="a\nb", new="a\nc") == "--- old\n+++ new\n@@ -1,2 +1,2 @@\n a\n-b\n+c"
    assert await called("text_difference", old="a", new="a") == "They are the same."


async def test_a_checksum_is_of_utf8() -> None:
    assert await called("text_hash", text="hello", algorithm="md5") == "5d41402abc4b2a76b9719d911017c592"
    assert str(await called("text_hash", text="你好")).startswith(
        "670d9743542cae3ea7ebe36af56bd53648b0a1126162e78d81a32934a711302e"
    )


async def test_statistics_of_numbers() -> None:
    assert await called("number_statistics", numbers=[3, 8, 21]) == {
        "count": 3, "sum": "32", "mean": "10.6666666667", "median": "8", "minimum": "3", "maximum": "21",
        "standard_deviation": "9.29157324318",
    }  # fmt: skip


async def test_json_is_queried_and_converted() -> None:
    document = '{"people": [{"name": "An", "age": 34}, {"name": "Bo", "age": 28}]}'
    assert await called("json_query", document=document, expression="people[?age > `30`].name") == {"result": ["An"]}
    assert await called("convert_data", document='{"a": [1, "二"]}', to="yaml") == "a:\n- 1\n- 二\n"
    assert json.loads(str(await called("convert_data", document="a: 1\nb: [x, null]", to="json"))) == {"a": 1, "b": ["x", None]}


@given(st.text(), st.sampled_from(["base64", "url", "hex"]))
def test_what_is_encoded_is_decoded(text: str, form: str) -> None:
    encode = TOOLS["encode_text"].function  # type: ignore[attr-defined]  # the function behind the tool
    assert encode(encode(text, form), form, True) == text


async def test_a_network_is_taken_apart() -> None:
    told = await called("ip_network", network="10.0.5.9/22", address="10.0.8.1")
    assert told == {
        "network": "10.0.4.0/22", "version": 4, "netmask": "255.255.252.0", "first": "10.0.4.0", "last": "10.0.7.255",
        "addresses": "1024", "usable_hosts": "1022", "private": True, "contains": False,
    }  # fmt: skip
    assert (await called("ip_network", network="192.0.2.0/31"))["usable_hosts"] == "2"  # type: ignore[index]


async def test_a_url_is_taken_apart() -> None:
    assert await called("parse_url", url="https://example.com:8443/a/b?x=1&x=2&y=#top") == {
        "scheme": "https", "host": "example.com", "port": 8443, "path": "/a/b",
        "parameters": [["x", "1"], ["x", "2"], ["y", ""]], "fragment": "top",
    }  # fmt: skip


async def test_a_qr_code_is_a_picture() -> None:
    result = await TOOLS["qr_code"].call({"text": "https://example.com"}, CONTEXT)
    assert result.parts[0].kind == "image" and "PNG" in result.text
