from __future__ import annotations

import asyncio
import json

import pytest

from runtime.clock import SystemClock
from schemas.errors import MilepostError, ProtocolError
from schemas.tools import ToolCard, ToolResult
from services.tools.admission import Admission
from services.tools.by_hand import call_by_hand, call_verb
from services.tools.memory_ledger import MemoryEffectLedger
from services.tools.rates import Rates
from services.tools.service import Toolbox
from services.tools.shelf import FixedShelf
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    InvalidResult,
    Plan,
    Reconciled,
    ToolError,
    ToolRefused,
    ToolUnavailable,
)

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


class Probe:
    """A tool that remembers its calls and does what it is told."""

    def __init__(self, effect: str = "read", does: object = "seen", timeout_s: float = 5.0) -> None:
        self.card = ToolCard.model_validate(
            {"name": "probe", "description": "d", "parameters": NUMBER, "effect": effect, "timeout_s": timeout_s}
        )
        self.calls: list[tuple[dict[str, object], CallContext]] = []
        self._does = does

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        self.calls.append((arguments, context))
        if isinstance(self._does, Exception):
            raise self._does
        if self._does == "hang":
            await asyncio.Event().wait()
        return ToolResult(text=str(self._does))

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        raise AssertionError("nothing is planned by hand")

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        raise AssertionError("nothing is reconciled by hand")


def _asked(name: str = "probe", **more: object) -> bytes:
    return json.dumps({"tenant": "acme", "user": "ann", "name": name, "arguments": {"n": 1}, **more}).encode()


async def by_hand(probe: Probe, raw: bytes, owner: str = "*") -> bytes:
    return await call_by_hand(Admission(FixedShelf([probe], owner), "builtin"), Rates(), raw)


async def test_a_read_is_called_for_its_caller() -> None:
    probe = Probe(does="读到了")

    result = ToolResult.model_validate_json(await by_hand(probe, _asked()))

    assert result.text == "读到了"
    ((arguments, context),) = probe.calls
    assert (arguments, context.tenant, context.user, context.write_key) == ({"n": 1}, "acme", "ann", None)


@pytest.mark.parametrize("effect", ["write", "destructive"])
async def test_what_changes_the_world_is_refused_before_anything_happens(effect: str) -> None:
    probe = Probe(effect)

    with pytest.raises(ToolRefused) as refused:
        await by_hand(probe, _asked())

    assert probe.calls == []
    assert "milepost ask" in refused.value.hint


async def test_a_wrong_question_calls_nothing() -> None:
    probe = Probe()
    for raw, error in (
        (b"{", ProtocolError),
        (b"[]", ProtocolError),
        (_asked(name=""), ProtocolError),
        (_asked(user="two words"), ProtocolError),
        (_asked(name="other"), ToolError),
        (_asked(arguments={"n": "one"}), InvalidArguments),
        (_asked(arguments={"n": 1, "m": 2}), InvalidArguments),
        (_asked(arguments={"n": 1, "m": "x" * 80_000}), ProtocolError),
    ):
        with pytest.raises(error):
            await by_hand(probe, raw)
    with pytest.raises(ToolError):
        await by_hand(probe, _asked(), "globex")

    assert probe.calls == []


@pytest.mark.parametrize(
    ("does", "error"),
    [
        (ValueError("broken"), ToolError),
        (ToolUnavailable("It is down."), ToolUnavailable),
        ("x" * 300_000, InvalidResult),
        ("hang", ToolUnavailable),
    ],
)
async def test_whatever_goes_wrong_is_said_in_words(does: object, error: type[MilepostError]) -> None:
    probe = Probe(does=does, timeout_s=0.05 if does == "hang" else 5.0)

    with pytest.raises(error) as raised:
        await by_hand(probe, _asked())

    assert raised.value.what


def test_every_host_answers_under_its_own_verb() -> None:
    verbs = [set(Toolbox([], MemoryEffectLedger(), SystemClock(), lane=lane).service().answers) for lane in ("builtin", "mine")]

    assert [each - {"forget"} for each in verbs] == [{call_verb("builtin")}, {call_verb("mine")}]
