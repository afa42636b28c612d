from __future__ import annotations

import io
import json
import logging

import pytest

from infra import logs


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("tools", level="info", format="json", stream=stream)
    return stream


def test_a_line_is_one_json_object_that_says_service_run_and_event(stream: io.StringIO) -> None:
    with logs.bound(run="r1", event="e1"):
        logs.logger("tools.http").info("called", tool="clock")
    logs.logger("tools.http").info("after")

    first, second = map(json.loads, stream.getvalue().splitlines())

    assert first["message"] == "called"
    assert (first["service"], first["logger"], first["run"], first["event_id"]) == ("tools", "tools.http", "r1", "e1")
    assert "run" not in second


def test_secrets_are_masked_wherever_they_stand(stream: io.StringIO) -> None:
    logs.logger("x").info(
        "to nats://me:hush@host", password="hush", inner={"access_key_secret": "hush", "urls": ["nats://hush@host"]}
    )
    logging.getLogger("library").warning("connecting to %s", "postgresql://me:hush@host/db")

    assert "hush" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 2


def test_an_exception_keeps_its_traceback_in_the_same_line(stream: io.StringIO) -> None:
    try:
        raise RuntimeError("nats://me:hush@host is away")
    except RuntimeError:
        logs.logger("x").exception("failed")

    (line,) = map(json.loads, stream.getvalue().splitlines())

    assert "RuntimeError" in line["exception"]
    assert "hush" not in line["exception"]


def test_what_is_below_the_level_is_not_written(stream: io.StringIO) -> None:
    logs.logger("x").debug("noise")

    assert stream.getvalue() == ""
