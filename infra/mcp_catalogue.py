"""What MCP clients find of a tenant: its tools' cards, by asking retrieval, and the bytes of its payloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from infra.mcp_answers import Load
from infra.wiring import World, open_payloads
from runtime.bus import Bus
from schemas import subjects
from schemas.canonical import Json, canonical, read_json
from services.retrieval.catalogue_questions import KnownTool, ToolList

if TYPE_CHECKING:
    from schemas.tools import ToolCard

_ANSWER_S = 15.0
_ANSWER_BYTES = 8 * 1024 * 1024
_AT_ONCE = 20
"""Cards that are asked for at once: an answer is to stay below what one message may carry."""


class BusCatalogue:
    """infra.mcp_server.Catalogue of one tenant."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        self._bus, self._tenant = bus, tenant

    async def page(self, after: str, limit: int) -> tuple[Sequence[ToolCard], str | None]:
        asked = {"tenant": self._tenant, "after": after, "limit": limit}
        page = ToolList.model_validate(await self._ask("list_tools", asked))
        names = [each.name for each in page.tools if each.presence == "here"]
        return await self._cards(names), page.after

    async def card(self, name: str) -> ToolCard | None:
        return next(iter(await self._cards([name])), None)

    async def _cards(self, names: Sequence[str]) -> list[ToolCard]:
        found: list[ToolCard] = []
        for at in range(0, len(names), _AT_ONCE):
            known = await self._ask("get_tools", {"tenant": self._tenant, "names": names[at : at + _AT_ONCE]})
            found += [KnownTool.model_validate(each).card for each in known] if isinstance(known, list) else []
        return found

    async def _ask(self, verb: str, question: object) -> Json:
        raw = await self._bus.ask(subjects.question("retrieval", verb), canonical(question), _ANSWER_S)
        return read_json(raw, limit=_ANSWER_BYTES)


def loader(world: World, tenant: str) -> Load:
    """Payloads' bytes, of a tenant."""
    payloads = open_payloads(world)
    return lambda ref: payloads.get(ref, tenant=tenant)
