"""Token files: encoded conversations one after the other, with the kind of each token.

A .npz of numpy: tokens (int32), kinds (uint8: index into the names), offsets (int64, one more than conversations), names
(the kinds' names) and source (index of the conversation in the data set it came from, int64).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenFile:
    """Encoded conversations. tokens, kinds: all in a row; offsets: where each begins, and the end; names: of the kinds."""

    tokens: NDArray[np.int32]
    kinds: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    source: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each conversation."""
        return np.diff(self.offsets)

    @classmethod
    def of(cls, lessons: Iterable[tuple[int, Sequence[int], Sequence[int]]], names: Sequence[str]) -> TokenFile:
        """lessons: (index in the data set, tokens, kinds) each."""
        sources, tokens, kinds, ends = [], [], [], [0]
        for source, said, parts in lessons:
            if len(said) != len(parts):
                raise ValueError(f"conversation {source} has {len(said)} tokens and {len(parts)} kinds")
            sources.append(source)
            tokens.append(np.asarray(said, np.int32))
            kinds.append(np.asarray(parts, np.uint8))
            ends.append(ends[-1] + len(said))
        return cls(
            np.concatenate([np.zeros(0, np.int32), *tokens]), np.concatenate([np.zeros(0, np.uint8), *kinds]),
            np.asarray(ends, np.int64), np.asarray(sources, np.int64), tuple(names),
        )  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> TokenFile:
        """Raises OSError or ValueError for what is no token file."""
        try:
            with path.open("rb") as opened:
                held = np.load(opened, allow_pickle=False)
                if not isinstance(held, np.lib.npyio.NpzFile):
                    raise ValueError("it holds a single array")
                if missing := {"tokens", "kinds", "offsets", "source", "names"} - set(held.files):
                    raise ValueError(f"it has no {', '.join(sorted(missing))}")
                names = tuple(str(name) for name in held["names"])
                file = cls(held["tokens"], held["kinds"], held["offsets"], held["source"], names)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
            raise ValueError(str(error) or "it is cut off") from error
        file.check()
        return file

    def check(self) -> None:
        """Raises ValueError where the arrays do not fit each other."""
        types = {"tokens": np.int32, "kinds": np.uint8, "offsets": np.int64, "source": np.int64}
        for name, kind in types.items():
            held = getattr(self, name)
            if held.ndim != 1 or held.dtype != kind:
                raise ValueError(f"{name} is {held.dtype} of {held.ndim} dimensions, not {np.dtype(kind)} of one")
        if len(self.tokens) != len(self.kinds):
            raise ValueError(f"{len(self.tokens)} tokens and {len(self.kinds)} kinds")
        if not len(self.offsets) or self.offsets[0] != 0 or self.offsets[-1] != len(self.tokens) or (self.lengths < 0).any():
            raise ValueError("the offsets do not cover the tokens in order")
        if len(self.source) != len(self):
            raise ValueError(f"{len(self)} conversations and {len(self.source)} sources")
        if len(self.tokens) and (self.tokens.min() < 0 or self.kinds.max() >= len(self.names)):
            raise ValueError("a token is below 0, or of a kind without a name")

    def take(self, chosen: Sequence[int] | NDArray[np.int64]) -> TokenFile:
        """Only these conversations, in this order."""
        spans = [slice(int(self.offsets[one]), int(self.offsets[one + 1])) for one in chosen]
        ends = np.cumsum([0, *(span.stop - span.start for span in spans)], dtype=np.int64)
        return TokenFile(
            np.concatenate([self.tokens[:0], *(self.tokens[span] for span in spans)]),
            np.concatenate([self.kinds[:0], *(self.kinds[span] for span in spans)]),
            ends, self.source[np.asarray(chosen, np.int64)], self.names,
        )  # fmt: skip

    def write(self, path: Path) -> None:
        """As one file; a broken write leaves none."""
        scratch = path.with_suffix(".part")
        with scratch.open("wb") as file:
            np.savez(
                file, tokens=self.tokens, kinds=self.kinds, offsets=self.offsets, source=self.source, names=np.array(self.names)
            )  # fmt: skip
        scratch.replace(path)

    def weights(self, by_kind: dict[str, float]) -> NDArray[np.float32]:
        """The loss weight of each token. Raises ValueError for a kind without one."""
        if missing := [name for name in self.names if name not in by_kind]:
            raise ValueError(f"no weight for {', '.join(missing)}")
        return np.asarray([by_kind[name] for name in self.names], np.float32)[self.kinds]
