"""Where the door of a data directory is, for other commands."""

from __future__ import annotations

import json
from pathlib import Path

from infra.processes import write_private

FILE = "door.json"


def remember(home: Path, url: str) -> None:
    """Say where the door is, for `milepost open` and `milepost up`."""
    write_private(home / FILE, json.dumps({"url": url}))


def remembered(home: Path) -> str | None:
    """Where the door of this data directory is, if it was ever open."""
    try:
        return str(json.loads((home / FILE).read_text())["url"])
    except (OSError, ValueError, KeyError):
        return None
