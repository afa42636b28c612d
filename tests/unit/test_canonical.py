"""One strict reading of JSON and one canonical writing."""

from __future__ import annotations

import json
import math

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.canonical import MAX_DEPTH, OBJECT_DEPTH, canonical, checked, digest, read_json
from schemas.errors import ProtocolError
from schemas.tools import ToolCall

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300)
@given(VALUES)
def test_the_canonical_form_is_that_of_rfc_8785(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@settings(max_examples=200)
@given(VALUES)
def test_what_is_written_canonically_is_read_back(value: object) -> None:
    assert read_json(canonical(value), limit=1_000_000) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, "ü"]}, '{"a":[true,null,"ü"],"b":1}'),
        ([1.0, 1e21, 0.1, -0.0], "[1,1e+21,0.1,0]"),
        ({"\ue000": 1, "\U0001f600": 2}, '{"\U0001f600":2,"\ue000":1}'),  # by UTF-16 units, not by code points
        ("\u2028\x1f\x7f", '"\u2028\\u001f\x7f"'),
    ],
)
def test_the_canonical_form_of_awkward_values(value: object, text: str) -> None:
    assert canonical(value).decode() == text


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, -(2**70), "\ud800", {"\ud800": 1}, {1: 2}, object(), b"x"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError):
        canonical(value)


REFUSED = {
    "nothing": b"",
    "NaN": b'{"x":NaN}',
    "infinity": b"[-Infinity]",
    "a float that overflows": b"[1e999]",
    "an integer beyond 2^53": b"[9007199254740992]",
    "5,000 digits": b"9" * 5000,
    "a key twice": b'{"a":1,"a":1}',
    "a key twice, far inside": b'[{"x":{"a":1,"b":2,"a":3}}]',
    "a key twice, by an escape": b'{"a":1,"\\u0061":2}',
    "a lone surrogate": b'"\\ud800"',
    "a lone surrogate as a key": b'{"\\udc00":1}',
    "NUL": b'"\\u0000"',
    "NUL as a key": b'{"\\u0000":1}',
    "no UTF-8": b'"\xff"',
    "two values": b"1 2",
    "a comment": b"[1] // x",
    "a trailing comma": b"[1,]",
    "depth 100,000": b"[" * 100_000 + b"]" * 100_000,
    "depth 33": b"[" * 33 + b"1" + b"]" * 33,
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_what_is_no_strict_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_json(raw, limit=1_000_000)


def test_a_text_longer_than_its_limit_is_refused_and_one_at_the_limit_is_read() -> None:
    assert read_json(b'"' + b"x" * 98 + b'"', limit=100) == "x" * 98
    with pytest.raises(ProtocolError):
        read_json(b'"' + b"x" * 99 + b'"', limit=100)


@pytest.mark.parametrize(("raw", "value"), [(b" [1, 2.50]\n", [1, 2.5]), (b"null", None), (b'{"a":"\\u00fc"}', {"a": "ü"})])
def test_spaces_and_escapes_are_read(raw: bytes, value: object) -> None:
    assert read_json(raw, limit=100) == value


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_random_bytes_are_read_or_refused_and_nothing_else(raw: bytes | str) -> None:
    try:
        value = read_json(raw, limit=100)
    except ProtocolError:
        return
    assert checked(value) == value


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"x": value}
    return value


def test_the_depth_is_limited_and_an_object_of_a_call_leaves_room_for_its_envelope() -> None:
    assert checked(nested(MAX_DEPTH - 1)) == nested(MAX_DEPTH - 1)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError):
        checked(nested(MAX_DEPTH))  # type: ignore[arg-type]
    assert OBJECT_DEPTH <= MAX_DEPTH - 8


@pytest.mark.parametrize("arguments", [{"n": 2**53}, {"x": math.nan}, {"x": "\x00"}, {"x": "\ud800"}, nested(OBJECT_DEPTH)])
def test_arguments_that_could_not_be_hashed_or_stored_make_no_call(arguments: dict[str, object]) -> None:
    with pytest.raises((ValidationError, ValueError)):
        ToolCall(id="c1", name="clock", arguments=arguments)


def test_a_digest_keeps_its_parts_apart() -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", ""), digest("", "abc")}) == 5
    assert digest("a", b"b") == digest(b"a", "b")
    assert len(digest()) == 32
