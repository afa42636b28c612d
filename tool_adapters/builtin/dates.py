"""Days: how many lie between two, and which day comes after so many."""

from __future__ import annotations

import calendar
from datetime import date, timedelta

from tool_adapters.python import tool
from tool_adapters.tool import InvalidArguments

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@tool(
    name="date_difference",
    title="Days between dates",
    examples=(
        "How many days until 2027-01-01?",
        "Days between March 1 and June 15",
        "距离春节还有多少天？",
        "两个日期相差几天",
    ),
    tags=("date", "calendar"),
    timeout_s=5,
)
def date_difference(start: str, end: str) -> dict[str, object]:
    """Count the days, weeks and working days (Monday to Friday) between two dates.

    Args:
        start: A date, YYYY-MM-DD.
        end: A date, YYYY-MM-DD; an earlier one gives negative numbers.
    """
    first, last = _day("start", start), _day("end", end)
    days = (last - first).days
    return {"days": days, "weeks": round(days / 7, 2), "working_days": _working_days(first, last)}


@tool(
    name="date_add",
    title="Date arithmetic",
    examples=(
        "What date is 90 days after 2026-11-21?",
        "Three months before May 31",
        "从今天起 30 天后是几号？",
        "三个月后是哪天",
    ),
    tags=("date", "calendar"),
    timeout_s=5,
)
def date_add(start: str, years: int = 0, months: int = 0, weeks: int = 0, days: int = 0) -> dict[str, str]:
    """Find the date so many years, months, weeks and days after (or before) another.

    Args:
        start: A date, YYYY-MM-DD.
        years: Years to add; negative goes back.
        months: Months to add; the day is cut to the month's last.
        weeks: Weeks to add.
        days: Days to add.
    """
    first = _day("start", start)
    month = first.year * 12 + first.month - 1 + years * 12 + months
    try:
        year, month = divmod(month, 12)
        moved = date(year, month + 1, min(first.day, calendar.monthrange(year, month + 1)[1]))
        found = moved + timedelta(weeks=weeks, days=days)
    except (ValueError, OverflowError) as error:
        raise InvalidArguments("That date lies beyond the calendar.", why=str(error)) from error
    return {"date": found.isoformat(), "weekday": WEEKDAYS[found.weekday()]}


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError as error:
        raise InvalidArguments(f"{name} is no date: {text!r}.", hint="write it as 2026-11-21") from error


def _working_days(first: date, last: date) -> int:
    """Mondays to Fridays from the first day (counted) to the last (not counted)."""
    if last < first:
        return -_working_days(last, first)
    weeks, rest = divmod((last - first).days, 7)
    return weeks * 5 + sum((first.weekday() + each) % 7 < 5 for each in range(rest))
