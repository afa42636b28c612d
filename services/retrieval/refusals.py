"""Which cards were refused lately and why, as every process that keeps the catalogue tells it."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

from pydantic import ValidationError

from runtime.clock import Clock
from schemas.tools import Refusal

KEPT = timedelta(hours=1)
CONTENDED = timedelta(seconds=15)
"""A card that waits for its name comes again every few seconds, and is refused again."""

AT_MOST = 1000


class Refusals:
    """The last refusals, one a card; each for as long as it tells something."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: OrderedDict[tuple[str, str, str], tuple[Refusal, datetime]] = OrderedDict()

    async def hear(self, subject: str, raw: bytes) -> None:
        """A refusal that some process tells; what is none is not heard."""
        try:
            self.note(Refusal.model_validate_json(raw))
        except ValidationError:
            return

    def note(self, refusal: Refusal) -> None:
        """Remember it."""
        key = (refusal.tenant, refusal.lane, refusal.tool)
        self._until[key] = (refusal, self._clock.now() + (CONTENDED if refusal.holder else KEPT))
        self._until.move_to_end(key)
        while len(self._until) > AT_MOST:
            self._until.popitem(last=False)

    def forget(self, tenant: str, lane: str, tool: str) -> None:
        """The card was taken after all, or withdrawn."""
        self._until.pop((tenant, lane, tool), None)

    def told(self, *tenants: str) -> list[Refusal]:
        """Those of these tenants (of all, if none is named), the latest last."""
        now = self._clock.now()
        return [each for each, until in self._until.values() if until > now and (not tenants or each.tenant in tenants)]
