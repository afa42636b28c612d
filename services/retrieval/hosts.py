"""Which hosts of tools live: heard within the last ten seconds, or away; lanes that were never heard have no host."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import ValidationError

from runtime.clock import Clock
from schemas.ids import checked_token
from schemas.tools import Beat, ToolCard
from services.retrieval.tool_index import Host, ToolIndex

AWAY_S = 10.0
"""How long a host may be silent."""

STORED_S = 30.0
"""How old the stored beat of a host may become: who starts afterwards learns from it which hosts there are."""

Presence: TypeAlias = Literal["here", "away", "no host"]


class Hosts:
    """What was heard of the hosts, by lane.

    Silence counts from when the listening began: who was not listening does not know.
    """

    def __init__(self, index: ToolIndex, clock: Clock) -> None:
        self._index, self._clock = index, clock
        self._known: dict[str, Host] = {}
        self._stored: dict[str, datetime] = {}
        self._listening = clock.now()

    async def load(self) -> None:
        """Begin to listen, with what is stored."""
        stored = await self._index.hosts()
        self._stored = {lane: host.seen for lane, host in stored.items()}
        self._known = stored | self._known
        self._listening = self._clock.now()

    async def hear(self, subject: str, raw: bytes) -> None:
        """A beat; one that says nothing, or nothing that can be read, is a sign of life as well."""
        try:
            beat = Beat.model_validate_json(raw)
        except ValidationError:
            beat = Beat()
        self.alive(subject.rsplit(".", 1)[-1], beat)

    def alive(self, lane: str, beat: Beat | None = None) -> None:
        """The host of a lane has shown itself. beat: how it does; None: as it was."""
        known = self._known.get(checked_token(lane, "lane"))
        last = beat or known or Beat()
        answers = None if last.answers is None else frozenset(last.answers)
        now = self._clock.now()
        self._known[lane] = Host(lane=lane, seen=now, queue=last.queue, failing=last.failing, answers=answers)

    def presence_of(self, card: ToolCard) -> Presence:
        """Whether a tool is answered: its host lives, and says nothing else about this one."""
        host, presence = self._known.get(card.lane), self.presence(card.lane)
        return "away" if presence == "here" and host and not host.has(card.name) else presence

    def presence(self, lane: str) -> Presence:
        """Whether the host of a lane answers."""
        host = self._known.get(lane)
        if host is None:
            return "no host"
        silent_since = max(host.seen, self._listening)
        return "here" if (self._clock.now() - silent_since).total_seconds() <= AWAY_S else "away"

    def here(self) -> dict[str, Host]:
        """The hosts that answer, by lane."""
        return {lane: host for lane, host in self._known.items() if self.presence(lane) == "here"}

    def known(self) -> Mapping[str, Host]:
        """Every host that was ever heard, by lane."""
        return self._known

    async def store(self) -> None:
        """Write down those that are new, and now and then the others."""
        due = [host for host in self._known.values() if self._is_due(host)]
        if due:
            await self._index.heard(due)
            self._stored.update({host.lane: host.seen for host in due})

    def _is_due(self, host: Host) -> bool:
        stored = self._stored.get(host.lane)
        return stored is None or (host.seen - stored).total_seconds() >= STORED_S
