"""Names that clients hand back: of calls, approvals and responses, each with the run that waits for them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from schemas.ids import RunId

_MARK = 8
_NAME = re.compile(r"(call|mcpr|resp)_(\d{6}-[0-9a-f]{32})(?:_([0-9a-f]{8}))?")


@dataclass(frozen=True, slots=True)
class Named:
    """A run, and the beginning of a command's id in it or in a run below it; empty: the run's beginning."""

    run: RunId
    mark: str = ""


def mark_of(command: str) -> str:
    """As much of a command's id as tells it apart in its run."""
    return command[:_MARK]


def call_id(run: str, command: str) -> str:
    """The name of a call of a client's tool, or of an approval that is told as one."""
    return f"call_{run}_{mark_of(command)}"


def approval_id(run: str, command: str) -> str:
    """The name of an approval among a response's items."""
    return f"mcpr_{run}_{mark_of(command)}"


def response_id(run: str, since: str = "") -> str:
    """The name of a response. since: the command whose answer it goes on from."""
    return f"resp_{run}_{mark_of(since)}" if since else f"resp_{run}"


def read_name(kind: str, text: str) -> Named | None:
    """What a name of a kind (call, mcpr, resp) says; None for one that is not ours."""
    found = _NAME.fullmatch(text)
    if found is None or found[1] != kind or (kind != "resp" and not found[3]):
        return None
    return Named(RunId(found[2]), found[3] or "")
