"""The conversations a run learns from or is measured on: those of a token file that fit and say something to learn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.training.batch import weighted
from services.training.plan import Plan
from services.training.refusal import Refused
from services.training.token_file import TokenFile


@dataclass(frozen=True)
class Data:
    """file: the conversations kept; weights: of each token; lengths, conversation_weights, conversation_counts: tokens, sum of
    weights and weighted tokens of each conversation; too_long, unweighted: how many were left out; digest: of all this."""

    file: TokenFile
    weights: NDArray[np.float32]
    lengths: NDArray[np.int64]
    conversation_weights: NDArray[np.float64]
    conversation_counts: NDArray[np.int64]
    too_long: int
    unweighted: int
    digest: str

    @property
    def highest(self) -> int:
        """The highest token."""
        return int(self.file.tokens.max())

    @property
    def weighted_tokens(self) -> int:
        """How many tokens are learnt."""
        return int(self.conversation_counts.sum())

    @classmethod
    def read(cls, path: Path, plan: Plan) -> Data:
        """Raises Refused for what is no token file, or holds nothing to learn."""
        try:
            file = TokenFile.read(path)
        except (OSError, ValueError) as error:
            raise Refused(
                f"{path} is no token file",
                why=str(error) or type(error).__name__,
                hint="make it again with `milepost train`, which encodes the data set",
            ) from error
        try:
            weights = weighted(file, plan.weights)
        except ValueError as error:
            raise Refused(
                f"{path} cannot be weighted", why=str(error), hint="give each kind a number in the plan's `weights`"
            ) from error
        sums, counts = _sums(file, weights), _sums(file, weights > 0).astype(np.int64)
        long, empty = file.lengths > plan.length, counts == 0
        kept = np.flatnonzero(~long & ~empty)
        if not len(kept):
            raise Refused(
                f"{path} holds nothing to learn",
                why=f"of {len(file)} conversations {int(long.sum())} are longer than {plan.length} tokens, "
                f"{int((empty & ~long).sum())} have no token with a weight",
                hint="raise `length`, or give the kinds of replies a weight above 0",
            )
        chosen = file.take(kept)
        digest = hashlib.sha256(chosen.tokens.tobytes() + chosen.kinds.tobytes() + chosen.offsets.tobytes()).hexdigest()
        return cls(
            chosen, weighted(chosen, plan.weights), chosen.lengths, sums[kept], counts[kept], int(long.sum()),
            int((empty & ~long).sum()), digest,
        )  # fmt: skip


def _sums(file: TokenFile, values: NDArray[np.float32] | NDArray[np.bool_]) -> NDArray[np.float64]:
    running = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return np.asarray(running[file.offsets[1:]] - running[file.offsets[:-1]], np.float64)
