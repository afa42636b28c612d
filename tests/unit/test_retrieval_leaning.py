"""How a request leans: nothing without a known embedder or tools, bounded, and higher for the tool that is meant."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from schemas.tools import ToolCard
from services.retrieval.embedder import E5_SMALL, HashEmbedder, Kind
from services.retrieval.leaning import MOST, NEUTRAL, SLOPE, Leaning

CARD = ToolCard(name="renew", description="Renew a server.", parameters={"type": "object"})


class Placed:
    """Says where texts lie: the request at 0, the background and the card at fixed cosines from it."""

    name, dimensions, fits = E5_SMALL.name, 2, 0.84

    def __init__(self, card: float, background: float) -> None:
        self.card, self.background, self.asked = card, background, 0

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        self.asked += 1
        cosine = 1.0 if kind == "query" else self.card if len(texts) == 1 else self.background
        return [[cosine, (1 - cosine**2) ** 0.5] for _ in texts]


@pytest.mark.parametrize(
    ("card", "wanted"), [(0.85 + NEUTRAL, 0.0), (0.85 + NEUTRAL + 0.01, 0.01 * SLOPE), (0.99, MOST), (0.7, -MOST)]
)
async def test_the_lead_over_tools_in_general_becomes_log_odds(card: float, wanted: float) -> None:
    assert await Leaning(Placed(card, 0.85)).of("renew it", [CARD]) == pytest.approx(wanted)


async def test_the_background_is_embedded_once() -> None:
    placed = Placed(0.9, 0.85)
    leaning = Leaning(placed)
    await leaning.of("renew it", [CARD])
    asked = placed.asked
    await leaning.of("stop it", [CARD])
    assert placed.asked == asked + 2


async def test_where_nothing_is_known_nothing_is_said() -> None:
    assert await Leaning(HashEmbedder()).of("renew it", [CARD]) is None
    assert await Leaning(Placed(0.9, 0.85)).of("hello", []) is None


class Read(Placed):
    """Keeps the passages it is given."""

    def __init__(self) -> None:
        super().__init__(0.9, 0.85)
        self.passages: list[str] = []

    async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
        self.passages += texts if kind == "passage" else []
        return await super().embed(texts, kind)


async def test_cards_are_read_as_when_the_constants_were_picked() -> None:
    schema = {"type": "object", "properties": {"InstanceId": {}, "periodUnit": {}}}
    card = ToolCard(
        name="RenewInstance", title="续费", description="Renews.", parameters=schema, examples=("e",), tags=("ecs",)
    )
    read = Read()
    await Leaning(read).of("renew it", [card])
    assert read.passages[0] == "续费\nRenew Instance\nRenews.\ne\necs\nInstance Id period Unit"
