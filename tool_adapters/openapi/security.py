"""Who asks: credentials by reference, put where the document's security schemes want them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlencode

import orjson

from schemas.errors import MilepostError
from tool_adapters.openapi.call import Call, Scheme
from tool_adapters.openapi.document import Document, text_of
from tool_adapters.openapi.request import Credentials
from tool_adapters.references import checked_reference, resolve
from tool_adapters.tool import ToolRefused, ToolUnavailable
from tool_adapters.web import NoAnswer, Request, Web

EARLY_S = 30.0
"""How long before its end a token is fetched anew."""

TOKEN_S = 3600.0
"""How long a token lasts whose server does not say."""


class UnknownScheme(MilepostError):
    """A credential was given for a scheme that the document does not have."""


def schemes_of(document: Document) -> dict[str, Scheme]:
    """The security schemes that a document has, as far as they can be served."""
    components = document.root.get("components")
    said = components.get("securitySchemes") if isinstance(components, Mapping) else None
    if document.swagger:
        said = document.root.get("securityDefinitions")
    found = ((str(name), _scheme(document, each)) for name, each in said.items()) if isinstance(said, Mapping) else ()
    return {name: scheme for name, scheme in found if scheme}


def checked_auth(auth: Mapping[str, str], schemes: Mapping[str, Scheme]) -> dict[str, str]:
    """Credentials that a person gives, by scheme. Raises UnknownScheme, and InvalidTool for what is no reference."""
    for name, reference in auth.items():
        checked_reference(reference)
        if name not in schemes and plain_scheme(name) is None:
            known = ", ".join((*schemes, "bearer", "basic", "header:NAME", "query:NAME", "cookie:NAME", "oauth2:TOKEN_URL"))
            raise UnknownScheme(
                f"There is no security scheme {name}.", why=f"there is {known}", hint="--auth SCHEME=env:VARIABLE"
            )
    return dict(auth)


def plain_scheme(name: str) -> Scheme | None:
    """The scheme that a name tells by itself, for documents that say nothing of security."""
    kind, _, rest = name.partition(":")
    if name in ("bearer", "basic"):
        return Scheme(type="http", scheme=name)
    if kind == "oauth2" and rest.startswith(("http://", "https://")):
        return Scheme(type="oauth2", token_url=rest)
    for place in ("header", "query", "cookie"):
        if kind == place and rest:
            return Scheme(type="apiKey", place=place, name=rest)
    return None


class Keys:
    """The credentials of a source. Tokens of OAuth 2 are kept until shortly before they end."""

    def __init__(self, auth: Mapping[str, str], schemes: Mapping[str, Scheme], web: Web) -> None:
        self._auth, self._schemes, self._web = auth, schemes, web
        self._tokens: dict[str, tuple[str, float]] = {}
        self._fetching = asyncio.Lock()

    async def credentials(self, call: Call, timeout_s: float) -> Credentials:
        """What a call has to bring. Raises ToolRefused for a secret that is missing, ToolUnavailable for a token's server."""
        headers: dict[str, str] = {}
        query: list[tuple[str, str]] = []
        cookies: list[str] = []
        for name, scheme in self._wanted(call):
            secret = resolve(self._auth[name])
            if scheme.type == "apiKey":
                if scheme.place == "header":
                    headers[scheme.name.lower()] = secret
                elif scheme.place == "query":
                    query.append((scheme.name, secret))
                else:
                    cookies.append(f"{scheme.name}={quote(secret, safe='')}")
            elif scheme.scheme == "basic":
                headers["authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
            elif scheme.type == "oauth2" and scheme.token_url and ":" in secret:
                headers["authorization"] = f"Bearer {await self._token(name, scheme, secret, timeout_s)}"
            else:
                headers["authorization"] = f"Bearer {secret}"
        if any(ord(char) < 32 for value in headers.values() for char in value):
            raise ToolRefused("A secret has a line break in it.", code="SecretUnusable", hint="put it into one line")
        return Credentials(headers, tuple(query), tuple(cookies))

    def has(self) -> bool:
        """Whether there are any."""
        return bool(self._auth)

    def forget_tokens(self) -> bool:
        """Drop what was fetched: it was refused. Whether there was anything."""
        there, self._tokens = bool(self._tokens), {}
        return there

    def _wanted(self, call: Call) -> Iterator[tuple[str, Scheme]]:
        """The first alternative of the document of which all is there, and what goes with every call."""
        chosen = next(
            (each for each in call.security or () if each and all(name in self._auth for name in each)), ()
        )  # fmt: skip
        if call.security is None:
            chosen = tuple(name for name in self._auth if name in self._schemes)
        for name in chosen:
            yield name, self._schemes[name]
        for name in self._auth:
            scheme = plain_scheme(name) if name not in self._schemes else None
            if scheme:
                yield name, scheme

    async def _token(self, name: str, scheme: Scheme, secret: str, timeout_s: float) -> str:
        """An access token for client credentials (RFC 6749, 4.4). secret: `id:secret`."""
        key = hashlib.sha256(f"{name}\0{secret}".encode()).hexdigest()
        async with self._fetching:
            token, ends = self._tokens.get(key, ("", 0.0))
            if time.monotonic() < ends:
                return token
            token, lasts_s = await self._fetch(scheme, secret, timeout_s)
            self._tokens[key] = (token, time.monotonic() + max(0.0, lasts_s - EARLY_S))
            return token

    async def _fetch(self, scheme: Scheme, secret: str, timeout_s: float) -> tuple[str, float]:
        ident, _, word = secret.partition(":")
        basic = base64.b64encode(f"{quote(ident, safe='')}:{quote(word, safe='')}".encode()).decode()
        form = {"grant_type": "client_credentials"} | ({"scope": " ".join(scheme.scopes)} if scheme.scopes else {})
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        asked = Request("POST", scheme.token_url, headers, {"authorization": f"Basic {basic}"}, urlencode(form).encode())
        place = scheme.token_url.partition("?")[0]
        try:
            answer = await self._web.ask(asked, timeout_s)
        except NoAnswer as error:
            raise ToolUnavailable(f"No token came from {place}.", why=error.why) from error
        if answer.status >= 500 or answer.status == 429:
            raise ToolUnavailable(f"No token came from {place}.", why=f"HTTP {answer.status}")
        try:
            said = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            said = {}
        token = said.get("access_token") if isinstance(said, dict) else None
        if answer.status != 200 or not isinstance(token, str):
            why = text_of(said.get("error_description") or said.get("error")) if isinstance(said, dict) else ""
            raise ToolRefused(
                f"{place} gives no token.",
                code="NoToken",
                why=f"HTTP {answer.status} {why}".strip(),
                hint="check the client's id and secret",
            )
        lasts = said.get("expires_in")
        return token, float(lasts) if isinstance(lasts, int | float) and lasts > 0 else TOKEN_S


def _scheme(document: Document, value: object) -> Scheme | None:
    said = document.followed(value)
    kind = text_of(said.get("type"))
    if kind == "apiKey" and text_of(said.get("in")) in ("header", "query", "cookie"):
        return Scheme.model_validate({"type": kind, "place": said["in"], "name": text_of(said.get("name"))})
    if kind == "basic" or (kind == "http" and text_of(said.get("scheme")).lower() in ("basic", "bearer")):
        return Scheme(type="http", scheme="basic" if kind == "basic" else text_of(said["scheme"]).lower())
    if kind == "oauth2":
        flows = said.get("flows")
        flow = document.followed(flows.get("clientCredentials")) if isinstance(flows, Mapping) else {}
        if said.get("flow") == "application":
            flow = said
        scopes = flow.get("scopes")
        return Scheme(
            type="oauth2",
            token_url=text_of(flow.get("tokenUrl")),
            scopes=tuple(map(str, scopes)) if isinstance(scopes, Mapping) else (),
        )
    return Scheme(type="openIdConnect") if kind == "openIdConnect" else None
