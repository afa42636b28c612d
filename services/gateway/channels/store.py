"""Where channels are kept, the answers that are still owed to their chats, and which messages were read. The port."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from pydantic import Field

from schemas.ids import Token
from schemas.tools import Value
from services.gateway.answers import Conflict
from services.gateway.channels.channel import ChannelName, KeptChannel, Target

SEEN_FOR = timedelta(hours=3)
"""Longer than any messenger's signature is good."""


class Owed(Value):
    """An answer that a chat waits for. told: approvals and questions of the run that were shown there."""

    tenant: Token
    channel: ChannelName
    run: str
    chat: str
    user: str
    target: Target
    at: datetime
    told: tuple[str, ...] = Field(default=())


class ChannelStore(Protocol):
    """Channels of tenants. Every call is idempotent."""

    async def put(self, kept: KeptChannel) -> None:
        """Raises Conflict if somebody else put that version first."""
        ...

    async def get(self, tenant: str, name: str) -> KeptChannel | None: ...

    async def channels(self, tenant: str) -> list[KeptChannel]: ...

    async def every(self) -> list[KeptChannel]:
        """Those of all tenants."""
        ...

    async def remove(self, tenant: str, name: str) -> bool:
        """With all that is owed to its chats."""
        ...

    async def owe(self, owed: Owed) -> None:
        """An answer is owed to a chat; what is known of it stays."""
        ...

    async def take(self, now: datetime, lease_s: float, limit: int) -> list[Owed]:
        """Answers of all tenants that nobody sees to, for so long; those whose address is good no more are dropped."""
        ...

    async def hold(self, owed: Sequence[Owed], now: datetime, lease_s: float) -> None:
        """Somebody still sees to them."""
        ...

    async def told(self, owed: Owed, command: str) -> bool:
        """The chat is shown an approval; False if it was before."""
        ...

    async def settle(self, owed: Owed) -> None:
        """Nothing is owed any more."""
        ...

    async def owed(self, tenant: str, channel: str, chat: str) -> list[Owed]:
        """What a chat waits for, oldest first."""
        ...

    async def seen(self, tenant: str, channel: str, id: str) -> bool:
        """Whether a message was read before."""
        ...

    async def see(self, tenant: str, channel: str, id: str, now: datetime) -> bool:
        """A message is read; False if it was before."""
        ...


def changed(kept: KeptChannel) -> Conflict:
    """Somebody else put that version."""
    return Conflict(
        f"Channel {kept.channel.name} was changed by somebody else.", why=f"it has a version {kept.version}, or is gone",
        hint="look at it again, and make your change anew",
    )  # fmt: skip
