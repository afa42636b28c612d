"""The right to make one call: a short-lived value that the conductor signs and the tool's host verifies.

Its form is `base64url(payload).base64url(signature)` without padding: the payload is the canonical JSON (RFC 8785) of a
`Capability`, the signature is Ed25519 (RFC 8032) over exactly these bytes. Keys are named by a digest of their public half.
See docs/capabilities.md.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeAlias, TypedDict

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, ValidationError

from runtime.signing import KEY_BYTES, KeyPair, public_id
from schemas.canonical import canonical, digest, read_json
from schemas.commands import CallTool, PlanCall
from schemas.envelope import Order
from schemas.errors import MilepostError, ProtocolError
from schemas.events import RunRequested
from schemas.ids import Token
from schemas.tools import Value

MATERIAL = "capability"
"""Where it stands in the material of an order."""

TTL_S = 900.0
SKEW_S = 60.0
PURPOSE = "capability key"
TEXT_LIMIT = 4096

PublicKeys: TypeAlias = Mapping[str, Ed25519PublicKey]


class CapabilityError(MilepostError):
    """A call is not backed by a right to make it."""


class CapabilityMissing(CapabilityError):
    """The order carries no capability."""


class CapabilityForged(CapabilityError):
    """The capability is malformed, or none of the known keys has signed it."""


class CapabilityMismatch(CapabilityError):
    """The capability is genuine and for something else."""


class CapabilityExpired(CapabilityError):
    """The capability's time is over, or has not come."""


class Wanted(Value):
    """A command that a host of tools holds, and wants to have vouched for: is it still asked, and exactly so?"""

    tenant: Token
    run: str
    command: Token


class Capability(Value):
    """What may be called, for whom, and until when.

    issuer: the id of the key that signs. parents: the runs in whose calls this run was begun. arguments: digest of the
    canonical arguments; material: of what else the order carries, such as the planned state and a person's answers.
    not_before, expires: seconds since 1970.
    """

    issuer: str
    tenant: Token
    run: str
    command: str
    user: str
    agent: str
    parents: tuple[str, ...] = ()
    want: Literal["plan", "call"]
    tool: str
    lane: Token
    arguments: str
    material: str
    write_key: str | None = None
    approval: str | None = None
    not_before: int = Field(ge=0)
    expires: int = Field(ge=0)


class SigningKey(KeyPair):
    """The key pair that capabilities are signed with."""

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret, PURPOSE)

    def sign(self, capability: Capability) -> str:
        """The capability as it travels."""
        payload = canonical(capability.model_dump(mode="json", exclude_none=True))
        return f"{_text(payload)}.{_text(self.signature(payload))}"


class KeyPairs(Protocol):
    """The keys of the moment: they may be changed while the conductor runs."""

    def signing(self) -> SigningKey:
        """The one that signs now."""
        ...

    def trusted(self) -> Mapping[str, bytes]:
        """The public halves of that one and of those before it that are still good, by id."""
        ...


class Issuer:
    """Signs the orders of one conductor."""

    def __init__(self, keys: KeyPairs, *, ttl_s: float = TTL_S) -> None:
        self._keys, self._ttl_s = keys, ttl_s

    def issue(self, order: Order, request: RunRequested, now: datetime) -> str:
        """The right to do what the order, of a run that was so requested, asks of a host of tools."""
        key = self._keys.signing()
        return key.sign(capability_of(order, request, key.id, now=now, ttl_s=self._ttl_s))

    def told(self) -> dict[str, str]:
        """The public keys as the bus tells them: base64 by id."""
        return {id: base64.b64encode(raw).decode() for id, raw in self._keys.trusted().items()}


def key_id(public: bytes) -> str:
    """The name of a public key: 16 hex digits of a digest of its 32 bytes."""
    return public_id(PURPOSE, public)


def public_keys(told: Mapping[str, bytes]) -> dict[str, Ed25519PublicKey]:
    """Public keys by id, from their bytes. Raises CapabilityForged for one whose id or length is not its own."""
    for id, raw in told.items():
        if len(raw) != KEY_BYTES or key_id(raw) != id:
            raise CapabilityForged(f"The public key {id} is not what its name says.", hint="milepost keys capability show")
    return {id: Ed25519PublicKey.from_public_bytes(raw) for id, raw in told.items()}


def capability_of(order: Order, request: RunRequested, issuer: str, *, now: datetime, ttl_s: float = TTL_S) -> Capability:
    """The capability that fits an order for a host of tools exactly."""
    parent, begins = request.parent, now.timestamp()
    return Capability(
        issuer=issuer, user=request.user, agent=request.agent.name,
        parents=tuple(dict.fromkeys((parent.run, parent.root))) if parent else (),
        **_said(order), not_before=math.floor(begins), expires=math.ceil(begins + ttl_s),
    )  # fmt: skip


def read_capability(text: object, keys: PublicKeys) -> Capability:
    """The capability, if one of these keys has signed it. Raises CapabilityForged; `UnknownKey` if it names another."""
    payload, signature = _parts(text)
    try:
        capability = Capability.model_validate(read_json(payload, limit=TEXT_LIMIT))
    except (ProtocolError, ValidationError) as error:
        raise CapabilityForged("The capability's payload cannot be read.", why=str(error)[:200]) from error
    key = keys.get(capability.issuer)
    if key is None:
        raise UnknownKey(capability.issuer, keys)
    try:
        key.verify(signature, payload)
    except InvalidSignature as error:
        raise CapabilityForged(
            "The capability's signature is false.", why=f"key {capability.issuer} did not sign it"
        ) from error
    return capability


class UnknownKey(CapabilityForged):
    """The capability names a key that is not known here: a new one, one that was withdrawn, or anybody's."""

    def __init__(self, id: str, keys: PublicKeys) -> None:
        super().__init__(
            "The capability is signed with a key that is not trusted here.",
            why=f"it names {id[:32]}; trusted are {', '.join(sorted(keys)) or 'none'}",
            hint="milepost keys capability show, or set MILEPOST_CAPABILITY_KEYS",
        )


def check(capability: Capability, order: Order, now: datetime, *, skew_s: float = SKEW_S) -> None:
    """Whether the capability is for this order, now. Raises CapabilityMismatch, CapabilityExpired."""
    said = _said(order)
    wrong = [name for name, value in said.items() if getattr(capability, name) != value]
    if wrong:
        raise CapabilityMismatch(
            f"The capability is not for this call of {said['tool']}.", why=f"it has another {', '.join(wrong)}",
            hint="ask again: each call is signed by itself",
        )  # fmt: skip
    moment = now.timestamp()
    if moment >= capability.expires + skew_s:
        raise CapabilityExpired(
            f"The right to call {capability.tool} has expired.", why=f"it was good until {_moment(capability.expires)}",
            hint="ask again, and compare the clocks of conductor and host if it was signed just now",
        )  # fmt: skip
    if moment < capability.not_before - skew_s:
        raise CapabilityExpired(
            f"The right to call {capability.tool} is not good yet.", why=f"it is good from {_moment(capability.not_before)}",
            hint="set the clocks of conductor and host: they are more than a minute apart",
        )  # fmt: skip


class _Said(TypedDict):
    """What an order says itself of the call that it asks for."""

    tenant: str
    run: str
    command: str
    want: Literal["plan", "call"]
    tool: str
    lane: str
    arguments: str
    material: str
    write_key: str | None
    approval: str | None


def _said(order: Order) -> _Said:
    command = order.body
    if not isinstance(command, PlanCall | CallTool):
        raise ProtocolError(f"{command.kind} needs no capability.")
    called = command if isinstance(command, CallTool) else None
    return _Said(
        tenant=order.tenant, run=order.run, command=order.id, want="call" if called else "plan", tool=command.call.name,
        lane=command.lane, arguments=digest("arguments", canonical(command.call.arguments)),
        material=digest("material", canonical({name: value for name, value in order.material.items() if name != MATERIAL})),
        write_key=called.write_key if called else None, approval=called.approval if called else None,
    )  # fmt: skip


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _parts(text: object) -> tuple[bytes, bytes]:
    if not isinstance(text, str) or len(text) > TEXT_LIMIT or not text.isascii() or text.count(".") != 1:
        raise CapabilityForged("The capability is malformed.", why="it is PAYLOAD.SIGNATURE, each in base64url")
    payload, signature = text.split(".")
    try:
        return _raw(payload), _raw(signature)
    except (binascii.Error, ValueError) as error:
        raise CapabilityForged("The capability is malformed.", why="a part is no base64url") from error


def _raw(text: str) -> bytes:
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(raw) != text:
        raise ValueError("another writing of the same bytes")
    return raw
