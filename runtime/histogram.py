"""How long things took, counted by fixed bounds: cheap to keep, small to tell, and sums of several are sums of their counts."""

from __future__ import annotations

from bisect import bisect_left

from schemas.canonical import JsonObject

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the buckets, in seconds; what took longer is in one more."""


class Histogram:
    """Counts by bucket, and the sum, in seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one. Clocks of two machines may differ: what took less than nothing took nothing."""
        took = max(0.0, seconds)
        self.counts[bisect_left(BOUNDS, took)] += 1
        self.sum += took

    def told(self) -> JsonObject:
        """As it goes over the bus."""
        return {"counts": [*self.counts], "sum": round(self.sum, 6)}

    @classmethod
    def read(cls, said: object) -> Histogram | None:
        """What `told` gave; None for something else, such as that of a version with other bounds."""
        if not isinstance(said, dict):
            return None
        counts, total = said.get("counts"), said.get("sum")
        if not isinstance(counts, list) or len(counts) != len(BOUNDS) + 1 or not isinstance(total, int | float):
            return None
        found = cls()
        found.counts, found.sum = [each for each in counts if isinstance(each, int)], float(total)
        return found if len(found.counts) == len(counts) else None
