"""An embedder that is still on its way: questions wait for it instead of failing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from runtime.errors import Permanent
from schemas.errors import MilepostError
from services.retrieval.embedder import Embedder, Kind, Traits

log = structlog.get_logger("services.retrieval")


class LoadingEmbedder:
    """Stands for the embedder that `load` brings; a failure to load answers every request with its reason."""

    def __init__(self, traits: Traits, bring: Callable[[], Awaitable[Embedder]]) -> None:
        self.name, self.dimensions, self.fits = traits.name, traits.dimensions, traits.fits
        self._bring = bring
        self._embedder: Embedder | None = None
        self._failure: MilepostError | None = None
        self._settled = asyncio.Event()

    async def load(self) -> None:
        """Bring the embedder, once."""
        try:
            self._embedder = await self._bring()
            log.info("embedder loaded", embedder=self.name)
        except MilepostError as error:
            self._failure = error
            log.error("embedder not loaded", what=error.what, why=error.why, hint=error.hint)
        finally:
            self._settled.set()

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        """Wait for the embedder, then embed. Raises Permanent when it could not be loaded."""
        return await (await self._loaded()).embed(texts, kind)

    async def counter(self) -> Callable[[str], int]:
        """Wait for the embedder; it knows how it counts. Raises Permanent when it could not be loaded."""
        return await (await self._loaded()).counter()

    async def _loaded(self) -> Embedder:
        await self._settled.wait()
        if self._embedder is None:
            failure = self._failure
            raise Permanent(
                f"The embedder {self.name} could not be loaded.", why=failure.what if failure else "",
                hint=failure.hint if failure and failure.hint else "milepost models pull multilingual-e5-small",
            )  # fmt: skip
        return self._embedder
