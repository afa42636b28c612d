"""When a renewed subscription ends."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta, timezone

_FORM = "%Y-%m-%dT%H:%MZ"
_CHINA = timezone(timedelta(hours=8))


def renewed_until(expires: str, period: int, unit: str) -> str:
    """The new expiry, `period` weeks or calendar months after `expires` (2026-12-01T16:00Z, UTC).

    ECS ends subscriptions at 16:00Z, which is midnight in China: months are counted there, and the 31st
    becomes the last day of a shorter month.
    """
    moment = moment_of(expires).astimezone(_CHINA)
    if unit == "Week":
        end = moment + timedelta(weeks=period)
    else:
        year, month = divmod(moment.year * 12 + moment.month - 1 + period, 12)
        day = min(moment.day, calendar.monthrange(year, month + 1)[1])
        end = moment.replace(year=year, month=month + 1, day=day)
    return end.astimezone(UTC).strftime(_FORM)


def moment_of(expires: str) -> datetime:
    """The moment that an ExpiredTime names."""
    return datetime.strptime(expires, _FORM).replace(tzinfo=UTC)
