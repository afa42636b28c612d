"""A decoder without weights: what comes next is a checksum of what a slot holds, so a wrong cache shows in every token."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from services.llm.scores import HostScores, Scores
from services.llm.stream import END, Next

VOCABULARY = 97


class CountingDecoder:
    """Remembers its steps. steps: (tokens of each row, whether all places were asked for). forks: lengths that were copied.

    gate: no step is done before it is set.
    """

    provider, precision, threads = "test", "none", 1

    def __init__(self, *, slots: int = 4, capacity: int = 4096, chunk: int = 256, gate: threading.Event | None = None) -> None:
        self.slots, self.capacity, self.chunk = slots, capacity, chunk
        self.gate = gate
        self.memory = np.zeros((slots, capacity), np.int64)
        self.steps: list[tuple[list[list[int]], bool]] = []
        self.forks: list[int] = []
        self.events: list[str] = []

    def step(self, first: int, tokens: NDArray[np.int64], past: Sequence[int], *, every: bool = False) -> Sequence[HostScores]:
        if self.gate:
            assert self.gate.wait(30)
        rows, length = tokens.shape
        assert length == 1 or rows == 1
        self.steps.append((tokens.tolist(), every))
        if length > 1 and not every:
            self.events.append(f"read {length}")
        for row in range(rows):
            assert past[row] + length <= self.capacity
            self.memory[first + row, past[row] : past[row] + length] = tokens[row]
        if every:
            return [self._scores(first, past[0] + place + 1) for place in range(length)]
        return [self._scores(first + row, past[row] + length) for row in range(rows)]

    def fork(self, source: int, target: int, length: int) -> None:
        assert source != target
        self.forks.append(length)
        self.memory[target, :length] = self.memory[source, :length]

    def close(self) -> None:
        """Nothing to give back."""

    def _scores(self, slot: int, length: int) -> HostScores:
        logits = np.zeros(VOCABULARY, np.float32)
        logits[next_token(self.memory[slot, :length].tolist())] = 1
        return HostScores(logits)


def next_token(history: Sequence[int]) -> int:
    """What this decoder says after a history; never 0, which is what stands in rows that nobody reads."""
    return 1 + crc32(np.array(history, np.int64).tobytes()) % (VOCABULARY - 1)


def spoken(prompt: Sequence[int], count: int) -> list[int]:
    """What a stream says that always takes the likeliest token."""
    history = list(prompt)
    for _ in range(count):
        history.append(next_token(history))
    return history[len(prompt) :]


class Greedy:
    """Takes the likeliest token, count times, and tells the decoder's events its name with each."""

    def __init__(self, count: int, name: str = "", events: list[str] | None = None) -> None:
        self.count, self.name, self.events = count, name, events
        self.said: list[int] = []
        self.asked = threading.Event()

    def follow(self, scores: Scores) -> Next:
        self.asked.set()
        if self.events is not None:
            self.events.append(self.name)
        self.said.append(scores.best())
        return Next(self.said[-1:]) if len(self.said) < self.count else END
