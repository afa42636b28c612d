"""Names of other catalogues as names of tools."""

from __future__ import annotations

import re

from schemas.canonical import digest

LONGEST = 64
_MARK = 8


def tool_name(name: str, *, unlike: str = "") -> str:
    """The name with `_` for what no tool's name may have; one that is too long ends in a digest of the whole.

    unlike: what tells it from others of the same name; then it ends in a digest of that as well.
    """
    fitting = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "tool"
    if len(fitting) <= LONGEST and not unlike:
        return fitting
    return f"{fitting[: LONGEST - _MARK - 1].rstrip('_-')}_{digest(name, unlike)[:_MARK]}"
