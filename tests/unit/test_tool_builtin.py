"""Time, arithmetic, units and the guard of http_get."""

from __future__ import annotations

import math
import time
from datetime import datetime

import pytest

from tool_adapters.builtin import builtin_tools
from tool_adapters.builtin.calculator import evaluate, shown
from tool_adapters.builtin.current_time import zone_of
from tool_adapters.builtin.http_get import readable
from tool_adapters.builtin.unit_conversion import converted
from tool_adapters.tool import CallContext, InvalidArguments, Tool, ToolError, ToolRefused
from tool_adapters.web import checked_url, is_public

CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=5)


def named(name: str) -> Tool:
    return next(one for one in builtin_tools() if one.card.name == name)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("0.1 + 0.2", "0.3"),
        ("(12 + 8) * 3 / 4", "15"),
        ("2 ^ 10", "1024"),
        ("6 × 7 ÷ 2 =", "21"),
        ("-7 // 2", "-4"),
        ("sqrt(2024)", "44.9888875168"),
        ("2 ** 100", str(2**100)),
        ("round(2.675, 2) + max(1, 2) + floor(pi)", "7.67"),
        ("240 * 15 / 100", "36"),
    ],
)
def test_arithmetic(expression: str, text: str) -> None:
    assert shown(evaluate(expression)) == text


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "1 / 0",
        "9 ** 9 ** 9",
        "(9 ** 999) ** 999",
        "10.0 ** 400",
        "round(5, -1000000000)",
        "(-8) ** 0.5",
        "__import__('os').getcwd()",
        "(1).__class__",
        "[1, 2]",
        "'a' * 9",
        "True + 1",
        "f(1)",
        "sqrt(-1)",
        "1" * 401,
        "(" * 100 + "1" + ")" * 100 + "+" + "-" * 200 + "1",
        "max()",
        "lambda: 1",
    ],
)
def test_what_is_no_arithmetic_or_too_large_is_refused(expression: str) -> None:
    with pytest.raises(InvalidArguments):
        shown(evaluate(expression))


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (1, "mile", "km", 1.609344),
        (5, "英里", "公里", 8.04672),
        (72, "Fahrenheit", "celsius", 22.2222222),
        (-40, "C", "F", -40),
        (0, "K", "℃", -273.15),
        (3, "斤", "kg", 1.5),
        (5, "GB", "GiB", 4.65661287),
        (8, "bit", "byte", 1),
        (100, "km/h", "m/s", 27.7777778),
        (1, "gallon", "l", 3.785411784),
        (15, "亩", "公顷", 1),
        (90, "min", "hours", 1.5),
    ],
)
def test_units(value: float, source: str, target: str, expected: float) -> None:
    assert math.isclose(converted(value, source, target), expected, rel_tol=1e-7, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("value", "source", "target"), [(1, "km", "kg"), (1, "celsius", "km"), (1, "parsnip", "km"), (-300, "C", "F")]
)
def test_conversions_that_make_no_sense_are_refused(value: float, source: str, target: str) -> None:
    with pytest.raises(InvalidArguments):
        converted(value, source, target)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Tokyo", "Asia/Tokyo"),
        ("asia/shanghai", "Asia/Shanghai"),
        ("北京", "Asia/Shanghai"),
        ("New York", "America/New_York"),
        ("UTC", "UTC"),
    ],
)
def test_zones_are_found_by_city(name: str, key: str) -> None:
    assert zone_of(name).key == key


async def test_the_time_is_told_with_its_offset() -> None:
    result = await named("current_time").call({"timezone": "Tokyo"}, CONTEXT)
    value = result.parts[0].json_value

    assert isinstance(value, dict)
    told = datetime.fromisoformat(value["time"])
    assert told.utcoffset().total_seconds() == 9 * 3600  # type: ignore[union-attr]
    assert value["weekday"] == told.strftime("%A")


async def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="Atlantis"):
        await named("current_time").call({"timezone": "Atlantis/../etc"}, CONTEXT)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses_pass(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.100.100.200", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fd00::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:a00:1::",
        "fec0::1", "feff:ffff::1", "3fff::1", "3fff:fff:ffff::1", "2001:db8::1", "::7f00:1", "5f00::1",
    ],
)  # fmt: skip
def test_private_and_metadata_addresses_do_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/", "http://100.100.100.200/latest/", "http://127.0.0.1/", "http://[::1]/",
        "http://0x7f000001/", "http://2130706433/", "http://127.1/", "http://localhost/", "http://[::ffff:127.0.0.1]/",
        "file:///etc/passwd", "ftp://example.com/", "http://user:pass@example.com/", "http://8.8.8.8:22/", "http://", "x",
    ],
)  # fmt: skip
async def test_addresses_that_may_not_be_read(url: str) -> None:
    with pytest.raises((InvalidArguments, ToolRefused)) as caught:
        await named("http_get").call({"url": url}, CONTEXT)

    assert getattr(caught.value, "code", "AddressForbidden") == "AddressForbidden"


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "0X7F.1", "0177.0.0.1", "8.8.8.8.", "134744072", "1.2.3.4.5", "x.0x8"]
)
def test_an_address_is_written_in_one_way(host: str) -> None:
    """A resolver takes these for addresses, public ones too: nothing is resolved to find out."""
    with pytest.raises(ToolRefused) as caught:
        checked_url(f"http://{host}/", frozenset())
    assert caught.value.code == "AddressForbidden"


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "example.com", "0xdata.com", "123.example.org", "10.0.0.1.nip.example", "3com.com"]
)
def test_names_with_numbers_in_them_are_names(host: str) -> None:
    assert checked_url(f"https://{host}/", frozenset()).host == host


def test_pages_are_read_as_words() -> None:
    page = "<title>A &amp; B</title><script>alert(1)</script><style>p{}</style><p>One<br>two</p><!-- no --><div>three</div>"

    assert readable(page) == "A & B\nOne\ntwo\nthree"


@pytest.mark.parametrize("piece", ["<script ", "<!-- ", "<br ", "<style></script><", "<script></script x", "<"])
def test_a_page_is_read_in_time_however_it_is_made(piece: str) -> None:
    began = time.process_time()
    readable(piece * (400_000 // len(piece)))
    assert time.process_time() - began < 5  # a search that looked to the end for each piece took minutes


def test_what_is_not_closed_is_not_read() -> None:
    assert readable("a<!-- b --> c<script>d</script > e<style>f</style\t><svg>g") == "a c e"


def test_builtin_cards_have_examples_in_both_languages() -> None:
    for one in builtin_tools():
        assert any(text.isascii() for text in one.card.examples), one.card.name
        assert any(not text.isascii() for text in one.card.examples), one.card.name
        assert one.card.effect == "read"


async def test_a_read_has_no_plan() -> None:
    with pytest.raises(ToolError, match="nothing to plan"):
        await named("calculator").plan({"expression": "1"}, CONTEXT)
