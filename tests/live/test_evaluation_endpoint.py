"""An OpenAI-compatible endpoint that times out, is overloaded, breaks off and lies about its usage: told, never fatal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.evaluation.result import How, Result
from infra.evaluation.running import TooTroubled
from infra.evaluation.wiring import Questions, Subject, Wanted, examine, speaking
from infra.settings import load
from schemas.errors import MilepostError
from tests.support.examined import Doors, Told, items_of, locks
from tests.support.openai_server import OpenAIServer, serving


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with serving(Told(locks)) as found:
        yield found


async def examined(server: OpenAIServer, out: Path, count: int = 6, limit_s: float = 20.0, **more: object) -> Result:
    wanted = Wanted(None, at_once=1, limit_s=limit_s, how=How())
    subject = Subject(endpoint=server.url, name="served", **more)  # type: ignore[arg-type]
    bench = Doors(count)
    async with speaking(subject, wanted, load({"home": str(out)}, directory=out).settings) as (speaker, how):
        speaker.pause_s = 0.0  # type: ignore[attr-defined]
        _, result = await examine(Questions(bench, "all", items_of(bench), count), speaker, how, wanted, out=out)
    return result


def chunk(delta: dict[str, object], finish: str | None = None, **more: object) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "served", "choices": choices, **more}


def locking(arguments: str) -> dict[str, Any]:
    function = {"name": "lock_door", "arguments": arguments}
    return chunk({"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": function}]})


def usage(read: int, written: int) -> dict[str, object]:
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


async def test_it_is_asked_as_the_runtime_would_and_without_constraints(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOORS_KEY", "k-1")
    result = await examined(server, tmp_path, key_env="DOORS_KEY")
    assert (result.right.value, result.items, result.troubled, result.how.name) == (1.0, 6, {}, "free")
    assert (result.who.kind, result.who.name, result.who.provider) == ("endpoint", "served", server.url)
    assert set(server.keys) == {"Bearer k-1"}
    assert server.requests[0]["tools"][0]["function"]["name"] == "lock_door"  # type: ignore[index]
    assert "k-1" not in "".join(path.read_text() for path in tmp_path.rglob("*.json*"))
    again = await examined(server, tmp_path, key_env="DOORS_KEY")
    assert (again.kept, len(server.requests)) == (6, 6)


async def test_an_overloaded_endpoint_is_asked_again(server: OpenAIServer, tmp_path: Path) -> None:
    server.statuses = [429, 500, 503]
    result = await examined(server, tmp_path)
    assert (result.right.value, result.troubled, len(server.requests)) == (1.0, {}, 9)


async def test_broken_streams_are_asked_again_and_broken_arguments_are_wrong(server: OpenAIServer, tmp_path: Path) -> None:
    server.raw = [
        [chunk({"content": "Well"}), "cut"],
        ["data: {no json\n\n"],
        [locking('{"door": '), chunk({}, "tool_calls"), "data: [DONE]\n\n"],
        ['data: {"choices": null}\n\n'],
    ]
    result = await examined(server, tmp_path)
    assert (result.troubled, len(server.requests)) == ({}, 9)
    assert result.right.value == pytest.approx(5 / 6)
    assert result.unreadable.value == pytest.approx(1 / 6)


@pytest.mark.parametrize(("read", "written"), [(0, 0), (10**12, 4), (60, 10**9), (-3, -3)])
async def test_usage_that_is_a_lie_is_estimated(server: OpenAIServer, tmp_path: Path, read: int, written: int) -> None:
    server.raw = [
        [locking(json.dumps({"door": str(number)})), chunk({}, "tool_calls", usage=usage(read, written)), "data: [DONE]\n\n"]
        for number in range(6)
    ]
    result = await examined(server, tmp_path)
    assert (result.right.value, result.spent.estimated) == (1.0, 6)
    assert 60 < result.spent.prompt_tokens < 1200 and 6 <= result.spent.completion_tokens < 120


async def test_one_that_hangs_is_given_up_item_by_item(server: OpenAIServer, tmp_path: Path) -> None:
    server.hanging = True
    with pytest.raises(TooTroubled) as refused:
        await examined(server, tmp_path, limit_s=0.3)
    assert "longer than 0.3 s" in refused.value.why


async def test_what_cannot_be_asked_is_refused_early(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    settings = load({"home": str(tmp_path)}, directory=tmp_path).settings
    for subject, what in (
        (Subject(endpoint=server.url), "many models"),
        (Subject(endpoint="localhost:1", name="x"), "no address"),
        (Subject(endpoint=server.url, name="x", key_env="NO_SUCH_KEY"), "NO_SUCH_KEY is not set"),
    ):
        with pytest.raises(MilepostError, match=what):
            async with speaking(subject, Wanted(None), settings):
                pass
    assert not server.requests
