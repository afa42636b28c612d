"""A decoder for graphs as optimum exports them: any architecture that it knows, slower than a graph of our own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.errors import MilepostError
from services.llm.interface import GRAPH_FILE
from services.llm.scores import HostScores
from services.llm.session import Provider, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

Cache: TypeAlias = NDArray[np.float32 | np.float16]

# The graph computes the logits of every token it reads: of 256 tokens they would be 150 MB for a vocabulary of 150,000.
CHUNK = 64
PAST, PRESENT = "past_key_values.", "present."
PRECISIONS = {"tensor(float)": "fp32", "tensor(float16)": "fp16"}
DTYPES = {"fp32": np.float32, "fp16": np.float16}


class NotServable(MilepostError):
    """A graph has other inputs or outputs than optimum gives a decoder."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"The graph in {folder} cannot be served.",
            why=why,
            hint="export a decoder with one attention cache per layer: milepost models export --with optimum SOURCE",
        )
        self.folder = folder


class ExportedDecoder:
    """A session over optimum's graph (task text-generation-with-past) and the keys and values of each slot.

    Its inputs are input_ids [1, n], attention_mask [1, past + n], position_ids [1, n] (int64; the latter two where the graph
    has them) and past_key_values.N.key and .value [1, kv_heads, past, head_dim]; its outputs logits [1, n, vocabulary]
    and present.N.key and .value [1, kv_heads, past + n, head_dim].

    Slower than CpuDecoder in three ways: about a hundred small nodes a layer, weights as wide as they were exported, and
    a cache that is copied at every step, because the graph joins past and new keys into a new array. The rows of a step
    run one after the other, so a batch saves nothing; their results do not depend on each other to the last bit.
    Not safe for two threads. Raises NotServable, and what open_session raises.
    """

    def __init__(self, folder: Path, *, slots: int, capacity: int, threads: int, provider: Provider = "cpu") -> None:
        self.slots, self.capacity, self.threads, self.chunk = slots, capacity, threads, CHUNK
        self._session = open_session(folder / GRAPH_FILE, threads=threads, provider=provider)
        self.provider = self._session.get_providers()[0]
        self._asked = {each.name for each in self._session.get_inputs() if not each.name.startswith(PAST)}
        pasts = _pasts(folder, self._session)
        self.precision = PRECISIONS[pasts[0].type]
        self._presents = {past.name: past.name.replace(PAST, PRESENT) for past in pasts}
        # The arrays are never written to, so slots that were forked share them.
        self._empty: dict[str, Cache] = {
            past.name: np.zeros((1, past.shape[1], 0, past.shape[3]), DTYPES[self.precision]) for past in pasts
        }
        self._caches = [self._empty] * slots
        self.vocabulary = self._read(0, np.zeros(1, np.int64), 0).shape[-1]  # the graph's outputs may not state it
        self._caches[0] = self._empty

    def step(self, first: int, tokens: NDArray[np.int64], past: Sequence[int], *, every: bool = False) -> Sequence[HostScores]:
        """As the port says."""
        scores: list[HostScores] = []
        for slot, row, length in zip(range(first, first + len(tokens)), tokens, past, strict=True):
            logits = self._read(slot, row, length)
            scores += [HostScores(place) for place in (logits if every else logits[-1:])]
        return scores

    def fork(self, source: int, target: int, length: int) -> None:
        """Let one slot begin with the first tokens of another; nothing is copied before its next step."""
        self._caches[target] = _shortened(self._caches[source], length)

    def close(self) -> None:
        """Let go of the session and the cache."""
        self._caches.clear()
        del self._session

    def _read(self, slot: int, tokens: NDArray[np.int64], past: int) -> NDArray[np.float32]:
        """Read the tokens of one slot: their logits [n, vocabulary]."""
        total = past + len(tokens)
        if total > self.capacity:
            raise ValueError(f"{total} tokens do not fit into a slot of {self.capacity}")
        places = {
            "input_ids": tokens[None],
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(past, total)[None],
        }
        feeds: dict[str, NDArray[np.generic]] = {name: places[name] for name in self._asked}
        feeds.update(_shortened(self._caches[slot], past))
        logits, *presents = self._session.run(["logits", *self._presents.values()], feeds)
        self._caches[slot] = dict(zip(self._presents, presents, strict=True))
        return np.asarray(logits[0], np.float32)


def _shortened(cache: dict[str, Cache], length: int) -> dict[str, Cache]:
    return {name: np.ascontiguousarray(array[:, :, :length]) for name, array in cache.items()}


def _pasts(folder: Path, session: InferenceSession) -> list[NodeArg]:
    """The cache's inputs; NotServable if the graph has others, or other outputs, than a step knows of."""
    inputs, outputs = session.get_inputs(), {each.name for each in session.get_outputs()}
    known = {"input_ids", "attention_mask", "position_ids"}
    pasts = [each for each in inputs if each.name.startswith(PAST)]
    strange = [each.name for each in inputs if each not in pasts and each.name not in known]
    wanted = {"logits", *(past.name.replace(PAST, PRESENT) for past in pasts)}
    if strange or not pasts:
        raise NotServable(folder, f"it asks for {', '.join(strange)}" if strange else "it has no cache")
    if missing := sorted(wanted - outputs):
        raise NotServable(folder, f"it does not give {', '.join(missing)}")
    for past in pasts:
        if len(past.shape) != 4 or not isinstance(past.shape[1], int) or not isinstance(past.shape[3], int):
            raise NotServable(folder, f"its {past.name} is {past.shape}, not [batch, heads, tokens, width]")
        if past.type != pasts[0].type or past.type not in PRECISIONS:
            raise NotServable(folder, f"its {past.name} is {past.type}")
    return pasts
