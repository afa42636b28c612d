"""What reading one file may cost. Beyond it the file is named and passed over; nothing else is harmed."""

from __future__ import annotations

import resource
from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """file: bytes of the file; memory: bytes of address space of the process that reads it; seconds: of its time."""

    file: int = 128 * MIB
    memory: int = 1024 * MIB
    seconds: int = 120


LIMITS = Limits()


def confine(memory: int) -> None:
    """Hold this process to its memory, and let it write no files and open few."""
    _lower(resource.RLIMIT_AS, memory)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, 64)


def confine_time(seconds: int) -> None:
    """Let this process compute for so long from now, even when nobody is left to end it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)


def _lower(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
