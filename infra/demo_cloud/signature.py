"""Checking ACS3-HMAC-SHA256 request signatures.

Format: Alibaba Cloud, "Request syntax and signature method V3": the string to sign is the algorithm, a newline and the
SHA-256 of method, path, sorted query, signed headers, their names and the payload's SHA-256, joined by newlines.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote

from infra.demo_cloud.errors import CloudError

ALGORITHM = "ACS3-HMAC-SHA256"
CLOCK_SKEW = timedelta(minutes=15)
_AUTHORIZATION = re.compile(rf"^{ALGORITHM} Credential=([^,]+),SignedHeaders=([^,]+),Signature=([0-9a-f]{{64}})$")


@dataclass(frozen=True, slots=True)
class Signed:
    """The parts of an HTTP request that a signature covers. headers: names in lower case. query: as on the wire."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Verifier:
    """Accepts a request once, from a known key, signed within 15 minutes."""

    access_keys: Mapping[str, str]
    _nonces: dict[str, datetime] = field(default_factory=dict)

    def verify(self, request: Signed, now: datetime) -> str:
        """The access key id that signed the request. Raises CloudError with the real service's codes."""
        match = _AUTHORIZATION.match(request.headers.get("authorization", ""))
        if match is None:
            raise CloudError(400, "IncompleteSignature", "The request signature does not conform to Aliyun standards.")
        key, names, given = match[1], match[2].split(";"), match[3]
        secret = self.access_keys.get(key)
        if secret is None:
            raise CloudError(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        self._check_headers(request, names)
        text = f"{ALGORITHM}\n{hashlib.sha256(canonical_request(request, names)).hexdigest()}"
        expected = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, given):
            message = f"Specified signature does not match our calculation. server string to sign is:{text}"
            raise CloudError(400, "SignatureDoesNotMatch", message)
        self._check_fresh(request, now)
        return key

    def _check_headers(self, request: Signed, names: list[str]) -> None:
        required = {"host", *(name for name in request.headers if name.startswith("x-acs-"))}
        if missing := sorted(required - set(names)):
            raise CloudError(400, "IncompleteSignature", f"The headers {', '.join(missing)} must be signed.")
        if request.headers.get("x-acs-content-sha256") != hashlib.sha256(request.body).hexdigest():
            raise CloudError(400, "SignatureDoesNotMatch", "x-acs-content-sha256 is not the hash of the body.")

    def _check_fresh(self, request: Signed, now: datetime) -> None:
        try:
            stamp = datetime.strptime(request.headers.get("x-acs-date", ""), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise CloudError(400, "InvalidTimeStamp.Format", "Specified time stamp is not well formatted.") from error
        if abs(now - stamp) > CLOCK_SKEW:
            raise CloudError(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
        nonce = request.headers.get("x-acs-signature-nonce", "")
        self._nonces = {seen: at for seen, at in self._nonces.items() if now - at <= 2 * CLOCK_SKEW}
        if not nonce or nonce in self._nonces:
            raise CloudError(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
        self._nonces[nonce] = now


def canonical_request(request: Signed, signed_headers: list[str]) -> bytes:
    """What the client hashed before it signed."""
    pairs = sorted(parse_qsl(request.query, keep_blank_values=True))
    query = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs)
    headers = "".join(f"{name}:{request.headers.get(name, '').strip()}\n" for name in signed_headers)
    payload = hashlib.sha256(request.body).hexdigest()
    path = "/".join(quote(unquote(step), safe="~") for step in request.path.split("/"))  # however the client's library wrote it
    return "\n".join((request.method, path, query, headers, ";".join(signed_headers), payload)).encode()
