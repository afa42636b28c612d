"""What a decoder says about the next token, wherever it lies: on this host, or on a device that is slow to read from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.errors import Permanent

Logits: TypeAlias = NDArray[np.float32]
TOP = 64


class NotFinite(Permanent):
    """A model computed NaN or infinity, so that whatever it would say means nothing."""

    def __init__(self) -> None:
        super().__init__(
            "The model computed numbers that are none (NaN or infinity).",
            why="its weights are damaged, or its precision does not hold its values",
            hint="milepost models verify, then another precision (milepost models build --precision)",
        )


class Scores(Protocol):
    """The logits of one place in one stream. Every method raises NotFinite."""

    def best(self) -> int:
        """The likeliest token."""
        ...

    def top(self) -> tuple[NDArray[np.int64], Logits]:
        """The TOP likeliest tokens and their logits, best first."""
        ...

    def all(self) -> Logits:
        """The logits of the whole vocabulary [vocabulary]."""
        ...


class HostScores:
    """Scores that lie in this process's memory."""

    def __init__(self, logits: Logits) -> None:
        self._logits = logits

    def best(self) -> int:
        """The likeliest token; argmax finds a NaN first, too."""
        found = int(self._logits.argmax())
        if not np.isfinite(self._logits[found]):
            raise NotFinite
        return found

    def top(self) -> tuple[NDArray[np.int64], Logits]:
        """The likeliest tokens, best first; of equal ones the first."""
        self.best()
        size = min(TOP, len(self._logits))
        found = np.sort(np.argpartition(-self._logits, size - 1)[:size])
        found = found[np.argsort(-self._logits[found], kind="stable")]
        return found, self._logits[found]

    def all(self) -> Logits:
        """The logits."""
        self.best()
        return self._logits


class DeviceScores:
    """Scores whose likeliest tokens are here already; the whole row stays on the device until it is asked for.

    tokens and logits: the likeliest, best first; fetch: brings the row [vocabulary].
    """

    def __init__(self, tokens: NDArray[np.int64], logits: Logits, fetch: Callable[[], Logits]) -> None:
        self._tokens, self._logits, self._fetch = tokens, logits, fetch
        self._all: Logits | None = None

    def best(self) -> int:
        """The likeliest token."""
        if not np.isfinite(self._logits[0]):
            raise NotFinite
        return int(self._tokens[0])

    def top(self) -> tuple[NDArray[np.int64], Logits]:
        """The likeliest tokens, best first."""
        self.best()
        return self._tokens, self._logits

    def all(self) -> Logits:
        """The logits, fetched once."""
        if self._all is None:
            self._all = self._fetch()
        if not np.isfinite(self._all.max()):
            raise NotFinite
        return self._all
