"""How fast steps are here, as they went lately; and how much of a prompt may be read while others speak."""

from __future__ import annotations

# A piece of a prompt may take as long as so many decoding steps, and is never shorter than LEAST tokens.
STALL = 3.0
LEAST = 32
WEIGHT = 0.2


class Pace:
    """Moving averages of an engine's own steps. Seconds and tokens; 0 until something has been measured."""

    def __init__(self) -> None:
        self._step_s = 0.0
        self._token_s = 0.0
        self.decode_tok_s = 0.0

    @property
    def prefill_tok_s(self) -> float:
        """Tokens of prompts that a second of reading them takes in."""
        return 1 / self._token_s if self._token_s else 0.0

    def decoded(self, tokens: int, seconds: float) -> None:
        """A decoding step brought so many tokens to all its streams together."""
        self._step_s = _moved(self._step_s, seconds)
        self.decode_tok_s = _moved(self.decode_tok_s, tokens / max(seconds, 1e-9))

    def read(self, tokens: int, seconds: float) -> None:
        """A piece of a prompt was read; pieces below LEAST say little about longer ones."""
        if tokens >= LEAST:
            self._token_s = _moved(self._token_s, max(seconds, 1e-9) / tokens)

    def piece(self, longest: int) -> int:
        """Tokens that may be read while streams speak: LEAST to `longest`, LEAST while nothing has been measured."""
        if not self._step_s or not self._token_s:
            return min(LEAST, longest)
        return min(max(LEAST, int(STALL * self._step_s / self._token_s)), longest)


def _moved(average: float, value: float) -> float:
    return value if not average else average + WEIGHT * (value - average)
