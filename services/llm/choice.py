"""Answer or call: the decision of a turn, before an argument is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.llm.sampling import Allowed, log_softmax
from services.llm.scores import Scores

# Log-odds that an invented argument costs, and how far the other two parts may outweigh it.
INVENTED = 3.0
MOST_ODDS, LEAST_FIT = 4.0, -4.0


@dataclass(frozen=True)
class Choice:
    """calls and words: the tokens that a call, and an answer, may begin with. margin: in log-odds, leans to answering.

    A turn calls, and goes on calling, while odds + fit > margin, each of them bounded. odds: of a call's first token against
    words'; fit: the log-probability that the model, left to itself, would have written the name that it is made to choose
    from what is offered. Together that is how much likelier this very call is than words. Thanks and questions of knowledge
    have low odds; work that no tool does ("book a table") has high odds, but another name, or is bent into arguments of
    which nobody spoke: a call that is whole pays for each of those. Measured in docs/results.md.
    """

    calls: Allowed
    words: Allowed
    margin: float

    def odds(self, scores: Scores) -> float:
        """Log-odds that the model begins a call rather than an answer."""
        chances = np.exp(log_softmax(scores.all()))
        call, words = chances[self.calls].sum(), chances[self.words].sum()
        return float(np.log(max(call, 1e-30)) - np.log(max(words, 1e-30)))

    def is_call(self, odds: float, fit: float = 0.0, invented: int = 0) -> bool:
        """Whether to try a call, or go on with it.

        fit: of the name's tokens so far, which further ones can only lower. invented: required arguments that nobody spoke of.
        """
        return self.lead(odds, fit, invented) > 0

    def lead(self, odds: float, fit: float = 0.0, invented: int = 0) -> float:
        """By how much a call wins over words, in log-odds; words win below 0."""
        return min(odds, MOST_ODDS) + max(fit, LEAST_FIT) - INVENTED * invented - self.margin
