"""What the model reads of an answer: the rows and columns that matter, one line each."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from schemas.tools import Part, ToolResult
from tool_adapters.aliyun.apis import Api
from tool_adapters.aliyun.client import Answer

_DROPPED = frozenset({"RequestId", "PageNumber", "PageSize", "TotalCount", "NextToken"})
_BASE64 = frozenset({"CommandContent", "Output"})


def result_of_answer(api: Api, answer: Answer) -> ToolResult:
    """The result of a call."""
    rows = rows_of(api, answer)
    lines = [_line(row, api.fields) for row in rows]
    if api.effect == "read":
        total = answer.get("TotalCount", len(rows))
        if api.items and isinstance(_at(answer, api.items), list):
            lines.insert(0, f"{total} found." if total == len(rows) else f"{len(rows)} of {total} shown.")
        if answer.get("NextToken"):
            lines.append(f"More with NextToken={answer['NextToken']}")
    else:
        facts = [f"{name}: {value}" for name, value in answer.items() if name not in _DROPPED and not isinstance(value, dict)]
        lines = [f"{api.action} succeeded.", *facts, *lines]
    body = {name: value for name, value in answer.items() if name != "RequestId"}
    return ToolResult(text="\n".join(lines), parts=(Part(kind="json", json_value=body),))


def rows_of(api: Api, answer: Answer) -> list[Answer]:
    """The rows of an answer; an answer without a list is one row."""
    if not api.fields:
        return []
    found = _at(answer, api.items) if api.items else answer
    if isinstance(found, list):
        return [row for row in found if isinstance(row, dict)]
    return [found] if isinstance(found, dict) else []


def _at(value: object, path: str) -> object:
    for step in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value


def _line(row: Answer, fields: tuple[str, ...]) -> str:
    pairs = ((_label(field), _at(row, field)) for field in fields)
    return ", ".join(f"{name}: {_text(name, value)}" for name, value in pairs if value not in (None, "", []))


def _label(field: str) -> str:
    """The name of a column: VpcAttributes.PrivateIpAddress.IpAddress is the PrivateIpAddress."""
    steps = field.split(".")
    return steps[-2] if len(steps) > 1 else field


def _text(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(str(key), inner)}" for key, inner in value.items() if inner not in (None, "", []))
    if isinstance(value, list):
        return " | ".join(_text(name, item) for item in value)
    return decoded(value) if name in _BASE64 else str(value)


def decoded(value: object) -> str:
    """The text that the provider sends as base64; what is none stays as it is."""
    text = str(value or "")
    try:
        return base64.b64decode(text, validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return text
