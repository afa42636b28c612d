"""What a way of training took: cores, time and memory, from the end of its first update to that of its last."""

from __future__ import annotations

import json
import resource
import time
from dataclasses import dataclass, field

import torch


@dataclass
class Clock:
    """tokens, width, learnt: of each update, without padding, with it, and how many have a label; losses: the mean of each."""

    tokens: list[int] = field(default_factory=list)
    width: list[int] = field(default_factory=list)
    learnt: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    marks: list[tuple[float, float]] = field(default_factory=list)

    def mark(self) -> None:
        """An update is over."""
        self.marks.append((time.perf_counter(), time.process_time()))

    def say(self) -> None:
        """As a line of JSON. What is before the end of the first update is not counted."""
        (began, core_began), (ended, core_ended) = self.marks[0], self.marks[-1]
        counted = sum(self.tokens[1 : len(self.marks)])
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        if torch.cuda.is_available():
            memory = torch.cuda.max_memory_allocated() >> 20
        learnt = self.learnt[: len(self.losses)]
        print(json.dumps({
            "tok_s": counted / (ended - began),
            "tok_cpu_s": counted / (core_ended - core_began),
            "mib": memory,
            "padding": sum(self.width) / sum(self.tokens) - 1,
            "loss": sum(loss * count for loss, count in zip(self.losses, learnt, strict=True)) / sum(learnt),
            "updates": len(self.marks),
        }))  # fmt: skip
