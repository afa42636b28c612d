"""Calls by hand: a person tries a tool that changes nothing, without a run. What changes the world needs one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pydantic import Field, ValidationError

from schemas.canonical import JsonObject, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import Token
from schemas.tools import ToolResult, Value
from tool_adapters.tool import (
    ARGUMENTS_LIMIT,
    CallContext,
    Tool,
    ToolError,
    ToolRefused,
    ToolUnavailable,
    checked_result,
    validate,
)

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


async def call_by_hand(tools: Mapping[str, Tool], owner: str, raw: bytes) -> bytes:
    """CallByHand -> ToolResult. owner: the tenant whose tools these are, `*` for all.

    Raises ToolRefused for a tool that writes, ToolError for everything else that goes wrong.
    """
    asked = _read(raw)
    tool = tools.get(asked.name)
    if tool is None or owner not in ("*", asked.tenant):
        raise ToolError(f"This host has no tool {asked.name}.", hint="milepost tools ls")
    if tool.card.effect != "read":
        raise ToolRefused(
            f"{asked.name} changes the world, so it is not called by hand.", code="WritesGoThroughARun",
            why="a run plans it, asks a person, does it once and keeps the receipt",
            hint=f'milepost ask "..." --tool {asked.name}',
        )  # fmt: skip
    validate(tool.card, asked.arguments)
    return (await _call(tool, asked)).model_dump_json().encode()


async def _call(tool: Tool, asked: CallByHand) -> ToolResult:
    context = CallContext(tenant=asked.tenant, run="", user=asked.user, timeout_s=tool.card.timeout_s)
    try:
        async with asyncio.timeout(tool.card.timeout_s):
            return checked_result(await tool.call(asked.arguments, context))
    except MilepostError:
        raise
    except TimeoutError as error:
        raise ToolUnavailable(f"{asked.name} did not answer within {tool.card.timeout_s:g} s.") from error
    except Exception as error:
        raise ToolError(f"{asked.name} failed.", why=f"{type(error).__name__}: {error}"[:500]) from error


def _read(raw: bytes) -> CallByHand:
    try:
        return CallByHand.model_validate(read_json(raw, limit=QUESTION_BYTES))
    except ValidationError as error:
        raise ProtocolError("The question is no call of a tool.", why=str(error)[:300]) from error
