"""Rate limits: as many calls of a tool a minute, for each tenant, as its card lets through; one bucket of tokens each."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

KEPT = 10_000
BURST_S = 6.0
"""A bucket holds the calls of so many seconds, so that a minute never has more than a tenth beyond its rate."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Rates:
    """Buckets of one host; another copy of the host has its own. now: seconds that never go back, the loop's if not given."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def take(self, tenant: str, tool: str, per_min: int | None, patience_s: float) -> float:
        """Seconds to wait before the call, which is counted now; if that is longer than patience_s, it is not counted."""
        if per_min is None:
            return 0.0
        rate, burst = per_min / 60.0, max(1.0, per_min * BURST_S / 60.0)
        now = self._now()
        bucket = self._buckets.setdefault((tenant, tool), _Bucket(burst, now))
        self._buckets.move_to_end((tenant, tool))
        while len(self._buckets) > KEPT:
            self._buckets.popitem(last=False)
        bucket.tokens, bucket.at = min(burst, bucket.tokens + (now - bucket.at) * rate), now
        wait = max(0.0, (1.0 - bucket.tokens) / rate)
        if wait <= patience_s:
            bucket.tokens -= 1.0
        return wait
