"""The cyclic garbage collector: nearly all that is made here goes by count, and holds no cycles."""

from __future__ import annotations

import gc

_YOUNG, _MIDDLE, _OLD = 20_000, 20, 20


def seldom() -> None:
    """Look seldom. With Python's own thresholds (700, 10, 10) a command spends a tenth of its time looking."""
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)


def settle() -> None:
    """For a process that starts once and then handles message after message: never look again at what was imported.

    Python's own thresholds made the collector walk every kept run all the time: a tenth of the CPU.
    """
    gc.collect()
    gc.freeze()
    seldom()
