"""What time it is somewhere."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from schemas.tools import Part, ToolResult
from tool_adapters.python import tool
from tool_adapters.tool import InvalidArguments

# Cities that people and models name, but IANA does not.
_CITIES = {
    "beijing": "Asia/Shanghai", "hangzhou": "Asia/Shanghai", "shenzhen": "Asia/Shanghai", "guangzhou": "Asia/Shanghai",
    "chengdu": "Asia/Shanghai", "china": "Asia/Shanghai", "北京": "Asia/Shanghai", "上海": "Asia/Shanghai",
    "杭州": "Asia/Shanghai", "中国": "Asia/Shanghai", "香港": "Asia/Hong_Kong", "东京": "Asia/Tokyo", "伦敦": "Europe/London",
    "纽约": "America/New_York", "巴黎": "Europe/Paris", "新加坡": "Asia/Singapore", "san francisco": "America/Los_Angeles",
    "washington": "America/New_York", "mumbai": "Asia/Kolkata", "gmt": "UTC",
}  # fmt: skip


@tool(
    name="current_time",
    title="Current time",
    examples=(
        "What time is it in Tokyo?",
        "What's today's date?",
        "Which day of the week is it in New York now?",
        "现在几点了？",
        "今天是几月几号，星期几？",
        "伦敦现在是什么时间？",
    ),
    tags=("time", "date", "clock"),
    timeout_s=5,
)
def current_time(timezone: str = "UTC") -> ToolResult:
    """Tell the current date, time and weekday in a city or time zone.

    Args:
        timezone: IANA zone or city, such as Asia/Shanghai or Tokyo.
    """
    zone = zone_of(timezone)
    now = datetime.now(zone)
    value = {"time": now.isoformat(timespec="seconds"), "weekday": now.strftime("%A"), "timezone": zone.key}
    told = f"It is {now:%H:%M:%S} on {now:%A}, {now:%Y-%m-%d} in {zone.key} (UTC{now:%z})."
    return ToolResult(text=told, parts=(Part(kind="json", json_value=value),))


def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name or of a well-known city. Raises InvalidArguments."""
    wanted = " ".join(name.strip().lower().replace("_", " ").split())
    key = _CITIES.get(wanted) or _zones().get(wanted)
    if key is None:
        raise InvalidArguments(f"There is no time zone {name!r}.", hint="use an IANA name such as Europe/Paris")
    try:
        return ZoneInfo(key)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidArguments(f"There is no time zone {name!r}.", why=str(error)) from error


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """IANA keys by their full name and by its last part, in lower case with blanks; full names win."""
    full = {key.lower().replace("_", " "): key for key in sorted(available_timezones())}
    cities: dict[str, str] = {}
    for flat, key in full.items():
        cities.setdefault(flat.rsplit("/", 1)[-1], key)
    return cities | full
