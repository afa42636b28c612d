"""Times of a clock, as pure functions of an expression and the time."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

CATCH_UP_AT_MOST = 100
LATE_S = 60.0
"""What is no later than this is not called missed."""


def check(expression: str, timezone: str) -> None:
    """Raises ValueError for what is no expression, never comes, or names no time zone."""
    try:
        next_after(expression, timezone, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f"{expression!r} is no cron expression: {error}") from error
    except StopIteration as error:
        raise ValueError(f"{expression!r} never comes") from error


def zone(timezone: str) -> ZoneInfo:
    """Raises ValueError."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{timezone!r} is no time zone") from error


def next_after(expression: str, timezone: str, moment: datetime) -> datetime:
    """The next time after a moment, in UTC. Raises CronSimError, ValueError, StopIteration."""
    return next(CronSim(expression, moment.astimezone(zone(timezone)))).astimezone(UTC)


def due(
    expression: str, timezone: str, since: datetime, now: datetime, catch_up: Literal["none", "last", "all"]
) -> list[datetime]:
    """The times after `since` up to now that are to be fired, oldest first, in UTC.

    What is not late is always fired; of what is late none, the last, or the last CATCH_UP_AT_MOST. Empty where the clock
    went backwards.
    """
    local = now.astimezone(zone(timezone))
    local = local if local.microsecond else local.replace(microsecond=1)  # so that this very second counts
    passed: list[datetime] = []
    for each in islice(CronSim(expression, local, reverse=True), CATCH_UP_AT_MOST):
        if (moment := each.astimezone(UTC)) <= since:
            break
        passed.append(moment)
    fresh = [each for each in passed if (now - each).total_seconds() <= LATE_S]
    late = passed[len(fresh):]  # fmt: skip
    missed = {"none": [], "last": late[:1] if not fresh else [], "all": late}[catch_up]
    return [*reversed(missed), *reversed(fresh)]
