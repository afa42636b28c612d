"""The gate of a host of tools: no call without a right to it that the conductor has signed and nobody has taken back.

Refused:  CapabilityMissing, CapabilityForged, UnknownKey, CapabilityMismatch, CapabilityExpired, Revoked.

What fails is asked of the conductor once: it may vouch for a command that is still outstanding, which is then carried
out, so that a right that has run out in a queue or was signed with a key that has been changed costs no call. An order
that says something else than the outstanding command of its name is nobody's, and is dropped without an answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from runtime.bus import Bus, Hear
from runtime.capability import (
    MATERIAL,
    Capability,
    CapabilityError,
    CapabilityForged,
    CapabilityMismatch,
    CapabilityMissing,
    UnknownKey,
    Wanted,
    check,
    public_keys,
    read_capability,
)
from runtime.clock import Clock
from runtime.errors import NotAsked, NotYet
from runtime.service import Context
from schemas import subjects
from schemas.canonical import canonical, read_json
from schemas.commands import CallTool, PlanCall
from schemas.envelope import Order
from schemas.errors import ProtocolError
from schemas.events import Failure
from schemas.tools import repeated_key, write_key
from services.tools.ledger import EffectLedger
from services.tools.revocations import Revocations

log = structlog.get_logger("services.tools.gate")

KeySource: TypeAlias = Callable[[], Awaitable[Mapping[str, bytes]]]
"""Where the public keys come from, by id."""

ANSWER_BYTES = 64 * 1024
ASK_S = 5.0
KEYS_LAST_S = 60.0
KEYS_AT_MOST_EVERY_S = 1.0
SEEN = 10_000
AGAIN_S = 0.5


@dataclass(slots=True)
class _Keys:
    """The public keys as they are known now; asked for again when one is missing, and now and then."""

    source: KeySource
    known: dict[str, Ed25519PublicKey] = field(default_factory=dict)
    at: float = float("-inf")

    async def now(self, *, older_than_s: float = KEYS_LAST_S) -> dict[str, Ed25519PublicKey]:
        moment = asyncio.get_running_loop().time()
        if moment - self.at >= older_than_s:
            self.known, self.at = public_keys(await self.source()), moment
        return self.known


class Gate:
    """Verifies each order of one host before anything is done for it; call it with the order's command and context.

    ledger: tells which writes have begun. These are seen through whatever the gate says: their outcome must be known.
    """

    def __init__(
        self, keys: KeySource, bus: Bus, clock: Clock, revocations: Revocations, ledger: EffectLedger | None = None
    ) -> None:  # fmt: skip
        self._keys, self._bus, self._clock, self._ledger = _Keys(keys), bus, clock, ledger
        self.revocations = revocations
        self._seen: OrderedDict[str, None] = OrderedDict()

    @property
    def hears(self) -> dict[str, Hear]:
        """What its host must hear while it works: revocations."""
        return {subjects.revoke("*"): self.revocations.heard}

    async def __call__(self, command: PlanCall | CallTool, context: Context) -> Failure | None:
        """Why the order is refused; None when it may be carried out.

        Raises NotYet for a command that comes as new and is not, so that the log is asked first; NotAsked for an order
        that is nobody's; Unreachable while the conductor cannot be asked.
        """
        order = context.order
        try:
            right = await self._right(order)
            await self.revocations.check(right, writes=_changes(command), now=self._clock.now())
        except CapabilityError as error:
            if await self._has_begun(command, order):
                return None
            log.warning("refused", tool=command.call.name, type=type(error).__name__, what=error.what, why=error.why)
            return Failure(type=type(error).__name__, what=error.what, why=error.why, hint=error.hint)
        self._once(order, context.attempt)
        return None

    async def _right(self, order: Order) -> Capability:
        """The capability of the order, its own or the one that the conductor vouches with. Raises CapabilityError."""
        try:
            return await self._verified(order.material.get(MATERIAL), order)
        except CapabilityError as error:
            vouched = await self._vouched(order)
            if vouched is None:
                raise
            try:
                return await self._verified(vouched, order, newest_keys=True)
            except CapabilityMismatch as other:
                log.warning("an order in another's name", run=order.run, command=order.id, why=other.why)
                raise NotAsked(other.why) from error

    async def _verified(self, text: object, order: Order, *, newest_keys: bool = False) -> Capability:
        if text is None:
            raise CapabilityMissing(
                "The call carries no right to it.", why="it was not the conductor that sent it, or one of an earlier version",
                hint="begin a run: milepost ask",
            )  # fmt: skip
        try:
            right = read_capability(text, await self._keys.now())
        except UnknownKey:
            right = read_capability(text, await self._keys.now(older_than_s=0.0 if newest_keys else KEYS_AT_MOST_EVERY_S))
        check(right, order, self._clock.now())
        return right

    async def _vouched(self, order: Order) -> object:
        """A fresh capability, if the run still wants this command. Raises Unreachable."""
        wanted = Wanted(tenant=order.tenant, run=order.run, command=order.id)
        question = subjects.question("conductor", "capability")
        raw = await self._bus.ask(question, canonical(wanted.model_dump(mode="json")), ASK_S)
        answer = read_json(raw, limit=ANSWER_BYTES)
        return answer.get(MATERIAL) if isinstance(answer, Mapping) else None

    async def _has_begun(self, command: PlanCall | CallTool, order: Order) -> bool:
        """Whether this very write was sent already, or may have been, and has not failed: that one is over."""
        if self._ledger is None or not isinstance(command, CallTool) or command.write_key is None:
            return False
        effect = await self._ledger.show(order.tenant, command.write_key)
        if effect is None or effect.state == "failed" or (effect.sent_s is None and effect.state != "done"):
            return False
        said = write_key(order.tenant, command.call.name, command.call.arguments, str(order.material.get("state", "")))
        same = effect.key == command.write_key == repeated_key(said, effect.round)
        return same and (effect.command, effect.run) == (order.id, order.run)

    def _once(self, order: Order, attempt: int) -> None:
        """A right is for one call: what was seen before must come as a repeated delivery, which asks the log first."""
        if attempt == 1 and order.id in self._seen:
            raise NotYet(AGAIN_S)
        self._seen[order.id] = None
        self._seen.move_to_end(order.id)
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)


def keys_from_the_bus(bus: Bus) -> KeySource:
    """The keys that the conductor tells: for hosts that trust their bus, and have no better source."""

    async def source() -> Mapping[str, bytes]:
        raw = await bus.ask(subjects.question("conductor", "capability_keys"), b"{}", ASK_S)
        answer = read_json(raw, limit=ANSWER_BYTES)
        told = answer.get("keys") if isinstance(answer, Mapping) else None
        if not isinstance(told, Mapping):
            raise ProtocolError("The conductor told no keys.", hint="milepost doctor")
        try:
            return {str(id): base64.b64decode(str(text), validate=True) for id, text in told.items()}
        except (binascii.Error, ValueError) as error:
            raise CapabilityForged("The conductor told keys that cannot be read.", why=str(error)) from error

    return source


def _changes(command: PlanCall | CallTool) -> bool:
    return isinstance(command, CallTool) and command.write_key is not None
