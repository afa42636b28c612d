"""Answer or call: the decision of a turn, before an argument is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.llm.sampling import Allowed, log_softmax
from services.llm.scores import Scores

# With less than this chance for all offered names together, the model wants a tool that is not there.
WANTED = 0.3


@dataclass(frozen=True)
class Choice:
    """calls and words: the tokens that a call, and an answer, may begin with. margin: in log-odds, leans to answering."""

    calls: Allowed
    words: Allowed
    margin: float
    wanted: float = WANTED

    def odds(self, scores: Scores) -> float:
        """Log-odds that the model begins a call rather than an answer."""
        chances = np.exp(log_softmax(scores.all()))
        call, words = chances[self.calls].sum(), chances[self.words].sum()
        return float(np.log(max(call, 1e-30)) - np.log(max(words, 1e-30)))

    def is_call(self, odds: float) -> bool:
        """Whether to try a call."""
        return odds > self.margin

    def is_meant(self, chance: float) -> bool:
        """Whether a call goes on, by the chance that the model would itself have named one of the offered tools."""
        return chance >= self.wanted
