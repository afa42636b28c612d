"""Tools that need no account and, but for http_get, no network."""

from __future__ import annotations

from collections.abc import Iterable

from tool_adapters.builtin.calculator import calculator
from tool_adapters.builtin.code_interpreter import code_interpreter
from tool_adapters.builtin.current_time import current_time
from tool_adapters.builtin.data import convert_data, encode_text, json_query
from tool_adapters.builtin.dates import date_add, date_difference
from tool_adapters.builtin.http_get import http_get
from tool_adapters.builtin.networks import ip_network, parse_url
from tool_adapters.builtin.qr_code import qr_code
from tool_adapters.builtin.texts import number_statistics, text_difference, text_hash, text_statistics
from tool_adapters.builtin.unit_conversion import unit_conversion
from tool_adapters.tool import Tool


def builtin_tools(*, http_allow: Iterable[str] = ()) -> list[Tool]:
    """Every built-in tool. http_allow: `host:port` places that http_get may reach although they are not public."""
    return [
        current_time, calculator, unit_conversion, http_get(allow=http_allow), code_interpreter, date_difference, date_add,
        text_statistics, text_difference, text_hash, number_statistics, json_query, convert_data, encode_text, ip_network,
        parse_url, qr_code,
    ]  # fmt: skip
