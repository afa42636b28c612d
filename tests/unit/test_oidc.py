"""Bearer tokens of a provider: whose keys sign them, what they must say, and who they are here."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from runtime.errors import Unreachable
from schemas.canonical import JsonObject
from services.gateway.oidc import Issuer, Tokens
from services.gateway.principal import NotSignedIn
from tests.support.door import bearing, browser, gateway

URL = "https://id.example"
KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
ISSUER = Issuer(URL, "milepost", tenant="acme")


class Provider:
    """What stands at the issuer's addresses. asked: how often its keys were fetched."""

    def __init__(self, **keys: Any) -> None:
        self.keys, self.asked, self.away = keys, 0, False

    async def fetch(self, address: str) -> JsonObject:
        if self.away:
            raise Unreachable("Away.")
        if address == f"{URL}/.well-known/openid-configuration":
            return {"jwks_uri": f"{URL}/keys"}
        assert address == f"{URL}/keys"
        self.asked += 1
        kind = jwt.algorithms.ECAlgorithm
        return {
            "keys": [{**json.loads(kind.to_jwk(key.public_key())), "kid": kid, "use": "sig"} for kid, key in self.keys.items()]
        }


def token(key: Any = KEY, kid: str | None = "one", algorithm: str = "ES256", **claims: object) -> str:
    now = datetime.now(UTC)
    said = {"iss": URL, "aud": "milepost", "sub": "kim", "exp": now + timedelta(minutes=5), "roles": ["operator"], **claims}
    return jwt.encode({k: v for k, v in said.items() if v is not None}, key, algorithm, headers={"kid": kid} if kid else {})


async def test_a_good_token_is_its_user_with_the_roles_it_says() -> None:
    who = await Tokens(ISSUER, Provider(one=KEY).fetch).who(token(roles=["operator", "approver", "astronaut"]))
    assert (who.tenant, who.user, who.roles, who.via) == ("acme", "kim", ("operator", "approver"), "oidc")


@pytest.mark.parametrize("wrong", [
    {"key": OTHER}, {"aud": "else"}, {"iss": "https://evil.example"}, {"exp": datetime.now(UTC) - timedelta(hours=1)},
    {"exp": None}, {"nbf": datetime.now(UTC) + timedelta(hours=1)}, {"sub": None}, {"sub": ""}, {"sub": 5}, {"kid": "three"},
    {"key": "s" * 32, "algorithm": "HS256"}, {"key": None, "algorithm": "none"},
])  # fmt: skip
async def test_a_token_with_anything_wrong_is_nobody(wrong: dict[str, Any]) -> None:
    with pytest.raises((NotSignedIn, ValueError)):
        await Tokens(ISSUER, Provider(one=KEY).fetch).who(token(**wrong))


async def test_the_public_key_is_no_secret_that_signs() -> None:
    """The oldest trick: HS256 with the published key as its secret."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    import base64
    import hashlib
    import hmac

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    body = {"iss": URL, "aud": "milepost", "sub": "root", "exp": 9_999_999_999}
    text = part({"alg": "HS256", "typ": "JWT", "kid": "one"}) + b"." + part(body)
    signed = text + b"." + base64.urlsafe_b64encode(hmac.new(public, text, hashlib.sha256).digest()).rstrip(b"=")
    with pytest.raises(NotSignedIn):
        await Tokens(ISSUER, Provider(one=KEY).fetch).who(signed.decode())


async def test_new_keys_are_fetched_when_one_is_missing_and_not_at_every_guess() -> None:
    provider = Provider(one=KEY)
    tokens = Tokens(ISSUER, provider.fetch)
    await tokens.who(token())
    provider.keys["two"] = OTHER
    for _ in range(5):
        with pytest.raises(NotSignedIn):
            await tokens.who(token(OTHER, "two"))
    assert provider.asked == 1
    tokens._fetched -= 60  # half a minute later
    assert (await tokens.who(token(OTHER, "two"))).user == "kim"
    assert provider.asked == 2


async def test_groups_become_roles_and_claims_the_tenant() -> None:
    issuer = Issuer(URL, "milepost", "email", "org", "groups", roles=(("cloud ops", "operator"), ("boss", "approver")))
    tokens = Tokens(issuer, Provider(one=KEY).fetch)
    who = await tokens.who(token(email="kim@corp.example", org="corp", groups=["boss", "admin", "cloud ops"]))
    assert who.tenant == "corp" and who.roles == ("approver", "operator")
    same = await tokens.who(token(email="kim-corp@example", org="corp", groups="boss"))
    assert who.user != same.user and who.user.startswith("kim-corp-example-")  # no two people become one
    with pytest.raises(NotSignedIn):
        await tokens.who(token(email="kim@corp.example", groups=[]))


async def test_a_provider_that_is_away_is_no_refusal() -> None:
    provider = Provider(one=KEY)
    provider.away = True
    async with browser(gateway(tokens=Tokens(ISSUER, provider.fetch))) as web:
        assert (await web.get("/api/session", headers=bearing(token()))).status_code == 503
        provider.away = False
        said = (await web.get("/api/session", headers=bearing(token()))).json()
        assert (said["tenant"], said["user"], said["rights"]) == ("acme", "kim", ["ask", "read"])
        session = (await web.post("/api/session", json={"key": token()})).json()
        assert session["via"] == "oidc" and (await web.get("/api/session")).json()["user"] == "kim"


async def test_rsa_tokens_are_read_too() -> None:
    key = rsa.generate_private_key(65537, 2048)

    async def fetch(address: str) -> JsonObject:
        if address.endswith("configuration"):
            return {"jwks_uri": f"{URL}/keys"}
        return {"keys": [{**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": "r"}]}

    assert (await Tokens(ISSUER, fetch).who(token(key, "r", "RS256"))).user == "kim"
    assert (await Tokens(ISSUER, fetch).who(token(key, None, "PS256"))).user == "kim"
