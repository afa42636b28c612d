"""What is left of a list that a person asked for, and what must never count as such."""

from __future__ import annotations

import time

import pytest

from services.llm.remaining import left


@pytest.mark.parametrize(
    ("request_", "used", "rest"),
    [
        ("Renew i-bp1m01 and i-bp1m02 for a month", "i-bp1m01", ["i-bp1m02"]),
        ("Renew i-bp1m01, i-bp1m02, and i-bp1m03", "i-bp1m01", ["i-bp1m02", "i-bp1m03"]),
        ("把i-bp1n01、i-bp1n02续费两个月", "i-bp1n01", ["i-bp1n02"]),
        ("i-bp1n01 和 i-bp1n02 都重启", "i-bp1n02", ["i-bp1n01"]),
        ("Write to ann@example.com and bob@example.com", "ann@example.com", ["bob@example.com"]),
        ("Renew i-bp1m01 and i-bp1m02", "i-bp1m01 i-bp1m02", []),
        ("Renew i-bp1m01, but leave i-bp1m02 alone", "i-bp1m01", []),
        ("Renew i-bp1m01, not i-bp1m02", "i-bp1m01", []),
        ("Stop i-bp1m01. Is i-bp1m02 still up?", "i-bp1m01", []),
        ("Renew i-bp1m01 and i-bp1m02", "", []),
        ("Renew i-bp1m1 and i-bp1m10", '{"InstanceId": "i-bp1m10"}', ["i-bp1m1"]),
        ("Stop i-bp1m01 and i-bp1m02", r'{"note": "stop\ni-bp1m01", "id": "i-bp1m02"}', []),
        ("Bread and butter", "Bread", []),
        ("", "x", []),
    ],
)
def test_only_the_rest_of_a_list_is_left(request_: str, used: str, rest: list[str]) -> None:
    assert left(request_, used) == rest


@pytest.mark.parametrize("line", ["a" * 100_000, "a-" * 50_000, "a." * 50_000 + "@"])
def test_a_long_line_without_a_blank_takes_no_long_time(line: str) -> None:
    began = time.process_time()
    assert left(line, "x") == []
    assert time.process_time() - began < 5  # unbounded, it would be minutes
