"""Calls by hand: a person tries a tool that changes nothing, without a run. What changes the world needs one."""

from __future__ import annotations

import asyncio

from pydantic import Field, ValidationError

from schemas.canonical import JsonObject, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import Token
from schemas.tools import ToolCall, ToolResult, Value
from services.tools.admission import Admission, Admitted
from services.tools.rates import Rates
from services.tools.reading import in_turn
from services.tools.redaction import Redaction
from tool_adapters.tool import ARGUMENTS_LIMIT, CallContext, ToolError, ToolRefused, ToolUnavailable, checked_result

QUESTION_BYTES = ARGUMENTS_LIMIT + 4096


class CallByHand(Value):
    """A question to a tool host: call one of its tools with these arguments."""

    tenant: Token = "default"
    user: Token = "me"
    name: str = Field(min_length=1, max_length=64)
    arguments: JsonObject = Field(default_factory=dict)


def call_verb(lane: str) -> str:
    """The verb that the host of a lane answers: hosts are not interchangeable, so each has its own."""
    return f"call-{lane}"


async def call_by_hand(admission: Admission, rates: Rates, raw: bytes) -> bytes:
    """CallByHand -> ToolResult. Raises ToolRefused for a tool that writes, ToolError for everything else that goes wrong."""
    asked = _read(raw)
    tool = await admission.tool(asked.tenant, asked.name)
    if tool.card.effect != "read":
        raise ToolRefused(
            f"{asked.name} changes the world, so it is not called by hand.", code="WritesGoThroughARun",
            why="a run plans it, asks a person, does it once and keeps the receipt",
            hint=f'milepost ask "..." --tool {asked.name}',
        )  # fmt: skip
    arguments, known = admission.arguments(tool, asked.arguments)
    context = CallContext(tenant=asked.tenant, run="", user=asked.user, timeout_s=tool.card.timeout_s)
    admitted = Admitted(tool, ToolCall(id="by-hand", name=asked.name), arguments, context, Redaction(known))
    await in_turn(admitted, rates)
    return (await _call(admitted, asked)).model_dump_json().encode()


async def _call(admitted: Admitted, asked: CallByHand) -> ToolResult:
    tool, hide = admitted.tool, admitted.hide
    try:
        async with asyncio.timeout(tool.card.timeout_s):
            return checked_result(hide.result(await tool.call(admitted.arguments, admitted.context)))
    except ToolError as error:
        error.what, error.why = hide.text(error.what), hide.text(error.why)
        raise
    except MilepostError:
        raise
    except TimeoutError as error:
        raise ToolUnavailable(f"{asked.name} did not answer within {tool.card.timeout_s:g} s.") from error
    except Exception as error:
        raise ToolError(f"{asked.name} failed.", why=hide.text(f"{type(error).__name__}: {error}"[:500])) from error


def _read(raw: bytes) -> CallByHand:
    try:
        return CallByHand.model_validate(read_json(raw, limit=QUESTION_BYTES))
    except ValidationError as error:
        raise ProtocolError("The question is no call of a tool.", why=str(error)[:300]) from error
