"""Sealed content: what a message says, so that only who has its data key can read it. See docs/adr/0004."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from schemas.commands import Role
from schemas.events import Event

ContentType: TypeAlias = Literal["application/json", "application/vnd.milepost.sealed+json"]
PLAIN: Literal["application/json"] = "application/json"
SEALED: Literal["application/vnd.milepost.sealed+json"] = "application/vnd.milepost.sealed+json"


class Sealed(Event):
    """The content of a message that is sealed, or that nobody can read any more since its key was destroyed.

    nonce, ciphertext: base64. The header's `datakey` names the key; the message's id is the associated data.
    """

    role: ClassVar[Role] = "client"  # who really speaks stands in the header's source
    nonce: str
    ciphertext: str
