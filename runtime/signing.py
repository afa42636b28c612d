"""Ed25519 (RFC 8032): key pairs, what their public halves are called, and whether a signature is genuine."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.canonical import digest

KEY_BYTES = 32


class KeyPair:
    """A key that signs. id: what its public half is called among the keys of that purpose."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = public_id(purpose, self.public)

    def signature(self, said: bytes) -> bytes:
        """The signature over exactly these bytes [64 bytes]."""
        return self._key.sign(said)


def public_id(purpose: str, public: bytes) -> str:
    """The name of a public key: 16 hex digits of a digest of what it is for and of its 32 bytes."""
    return digest(purpose, public)[:16]


def public_key(purpose: str, id: str, text: str) -> bytes | None:
    """The bytes of a public key from base64; None if they are no key, or not the one that the id names."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return None
    return raw if len(raw) == KEY_BYTES and public_id(purpose, raw) == id else None


def is_genuine(public: bytes, signature: str, said: bytes) -> bool:
    """Whether the key has signed these bytes. signature: base64, written in the one way that it can be."""
    try:
        raw = base64.b64decode(signature, validate=True)
        if base64.b64encode(raw).decode() != signature:
            return False
        Ed25519PublicKey.from_public_bytes(public).verify(raw, said)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
