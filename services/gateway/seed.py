"""The door's own secret: of one seed come the local key, what signs sessions, and what signs a sign-in link."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import jwt

from schemas.canonical import JsonObject
from services.gateway.principal import NotSignedIn

Purpose: TypeAlias = Literal["session", "link"]

COOKIE = "milepost_session"
"""How the cookies of all doors begin."""

SESSION = timedelta(hours=12)
LINK = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Seed:
    """32 random bytes that every copy of the gateway shares."""

    secret: bytes

    @property
    def local_key(self) -> str:
        """The key of whoever may read the data directory."""
        return f"mp_local.0.{base64.urlsafe_b64encode(self._derived('local key')).rstrip(b'=').decode()}"

    @property
    def cookie(self) -> str:
        """The name of a session's cookie: browsers keep cookies by host, not by port, and a host may have several doors."""
        return f"{COOKIE}_{self._derived('cookie').hex()[:8]}"

    def is_local_key(self, text: str) -> bool:
        """Compared in constant time."""
        return hmac.compare_digest(text.encode(), self.local_key.encode())

    def sign(self, purpose: Purpose, claims: JsonObject, now: datetime) -> str:
        """A token that is good for SESSION or LINK (JWT, HS256)."""
        ends = now + (SESSION if purpose == "session" else LINK)
        said = {**claims, "aud": purpose, "iat": int(now.timestamp()), "exp": int(ends.timestamp())}
        return jwt.encode(said, self._derived(purpose), algorithm="HS256")

    def read(self, purpose: Purpose, token: str) -> JsonObject:
        """What a token says. Raises NotSignedIn."""
        try:
            said: JsonObject = jwt.decode(
                token, self._derived(purpose), algorithms=["HS256"], audience=purpose, options={"require": ["exp", "aud"]}
            )
        except jwt.ExpiredSignatureError as error:
            raise NotSignedIn(f"the {purpose} has expired") from error
        except jwt.InvalidTokenError as error:
            raise NotSignedIn(f"this is no {purpose} of this door") from error
        return said

    def _derived(self, what: str) -> bytes:
        return hmac.new(self.secret, f"milepost door {what}".encode(), hashlib.sha256).digest()
