"""Permalinks: RUN#N names the Nth event of a run, as its receipt counts them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from schemas.errors import ProtocolError

_SCHEME = "milepost:run/"
_PLACE = re.compile(r"([^#]+)(?:#([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, slots=True)
class Place:
    """A run, as a person names it, and perhaps one of its events, from 1."""

    run: str
    event: int | None = None


def place_of(text: str) -> Place:
    """Read RUN or RUN#N, also after `milepost:run/`; a run's id may be cut short. Raises ProtocolError for anything else."""
    found = _PLACE.fullmatch(text.strip().removeprefix(_SCHEME))
    if not text.strip():
        raise ProtocolError("No run is named.", hint="milepost runs ls")
    if found is None:
        raise ProtocolError(
            f"{text!r} names no event of a run.", why="after # stands the event's number, from 1",
            hint="milepost runs show RUN#N",
        )  # fmt: skip
    run, event = found.groups()
    return Place(run, int(event) if event else None)


def permalink(run: str, event: int) -> str:
    """The name of one event of a run."""
    return f"{run}#{event}"
