"""How fast somebody may ask: a bucket of tokens each, which fills again by the minute."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from runtime.errors import Retryable

_KNOWN = 10_000


class TooMany(Retryable):
    """Somebody asks faster than they may. after_s: when it is worth trying again."""

    def __init__(self, after_s: float) -> None:
        super().__init__(
            "Too many requests.", why="the limit is a number of requests a minute", hint=f"again in {after_s:.0f} s"
        )
        self.after_s = after_s


class Rates:
    """Buckets by name; the longest unused ones are forgotten first."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._now = per_minute, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def let_in(self, name: str, *, look: bool = False) -> None:
        """Take a token. look: only see whether there is one. Raises TooMany."""
        now, full = self._now(), float(self._per_minute)
        left, at = self._buckets.get(name, (full, now))
        left = min(full, left + (now - at) * full / 60)
        if left < 1:
            raise TooMany(max(1.0, (1 - left) * 60 / full))
        if not look:
            self._buckets[name] = left - 1, now
            self._buckets.move_to_end(name)
            if len(self._buckets) > _KNOWN:
                self._buckets.popitem(last=False)
