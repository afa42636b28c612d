"""Tools that need no account: time, arithmetic, units and a guarded HTTP get."""

from __future__ import annotations

from collections.abc import Iterable

from tool_adapters.builtin.calculator import calculator
from tool_adapters.builtin.current_time import current_time
from tool_adapters.builtin.http_get import http_get
from tool_adapters.builtin.unit_conversion import unit_conversion
from tool_adapters.tool import Tool


def builtin_tools(*, http_allow: Iterable[str] = ()) -> list[Tool]:
    """Every built-in tool. http_allow: `host:port` places that http_get may reach although they are not public."""
    return [current_time, calculator, unit_conversion, http_get(allow=http_allow)]
