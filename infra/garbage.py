"""The cyclic garbage collector, for a process that starts once and then handles message after message."""

from __future__ import annotations

import gc

_YOUNG, _MIDDLE, _OLD = 20_000, 20, 20


def settle() -> None:
    """Never look again at what was imported, and seldom at the rest: nearly all that a message makes goes by count.

    Python's own thresholds (700, 10, 10) made the collector walk every kept run all the time: a tenth of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
