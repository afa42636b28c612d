"""What proves a run: a Merkle root over its events, numbered and chained by the recorder, and signed with its own key.

A leaf is the canonical JSON (RFC 8785) of one event's place and digest; the tree is that of RFC 9162, section 2.1. A receipt is
signed over its canonical JSON with Ed25519 (RFC 8032), after a word that says what is signed. See docs/adr/0009.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from schemas.ids import Token
from schemas.tools import Value

HASH = r"^[0-9a-f]{64}$"
NO_HASH = ""


class Leaf(Value):
    """One event as a receipt counts it. n: its number in the run, from 1; sha256, bytes: of the message as it is stored."""

    n: int = Field(ge=1)
    id: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=HASH)


class Unanswered(Value):
    """A command that was decided and had no answer when the run was sealed. id: of the command."""

    id: str
    kind: str


class Receipt(Value):
    """What the recorder says of a run.

    part: 1 for the receipt that the run ended with, then one more for each amendment. size: how many events it counts, from
    the first one on; root: of the tree over them, hex. amends: hash of the receipt before it of the same run, whose events are
    the first of these. number: its place in the tenant's chain, from 1; previous: hash of the receipt before it in the
    chain. unanswered: commands that nobody answered. key: the id of the key that signs.
    """

    version: Literal[1] = 1
    tenant: Token
    run: str
    part: int = Field(default=1, ge=1)
    outcome: Literal["completed", "failed", "cancelled"]
    decider: str
    size: int = Field(ge=1)
    root: str = Field(pattern=HASH)
    unanswered: tuple[Unanswered, ...] = ()
    amends: str = NO_HASH
    number: int = Field(ge=1)
    previous: str = NO_HASH
    sealed: datetime
    key: str


class Checkpoint(Value):
    """How far a tenant's chain had come: whoever keeps one elsewhere can tell if anything before it was changed or taken out.

    number, head: of the last receipt, and its hash. key: the id of the key that signs.
    """

    version: Literal[1] = 1
    tenant: Token
    number: int = Field(ge=0)
    head: str
    at: datetime
    key: str


class Endorsement(Value):
    """A key says which key comes after it, so that who trusts the first can follow. public: base64 of 32 bytes."""

    version: Literal[1] = 1
    key: str
    public: str
    since: datetime
    by: str
    signature: str
