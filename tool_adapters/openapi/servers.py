"""Where an API stands: servers with variables, relative ones, and the three parts that Swagger 2.0 has instead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urljoin, urlsplit

from tool_adapters.openapi.document import Document, InvalidDocument, Object, text_of

_VARIABLE = re.compile(r"\{([^{}]+)\}")


def server(document: Document, *, given: str = "", variables: Mapping[str, str] | None = None, origin: str = "") -> str:
    """The address that every path is put behind, without a slash at its end.

    given: instead of what the document says. variables: for the servers' own. origin: the address that the document was read
    from, for servers that are relative to it. Raises InvalidDocument when no whole address comes of it.
    """
    if given:
        return _whole(given, "")
    if document.swagger:
        return _whole(_swagger(document, origin), origin)
    servers = document.root.get("servers")
    said = [each for each in servers if isinstance(each, Mapping)] if isinstance(servers, list) else []
    return _whole(server_of(said, variables), origin)


def own_server(servers: Sequence[Object], server: str, variables: Mapping[str, str] | None) -> str | None:
    """Where an operation with servers of its own stands; None when that is where the others do. Raises InvalidDocument."""
    if not servers:
        return None
    address = _whole(server_of(servers, variables), server)
    return None if address == server else address


def server_of(servers: Sequence[Object], variables: Mapping[str, str] | None = None) -> str:
    """The first server's address with its variables put in; `/` where there is none."""
    if not servers:
        return "/"
    said = servers[0].get("variables")
    known = said if isinstance(said, Mapping) else {}

    def value(match: re.Match[str]) -> str:
        name = match[1]
        variable = known.get(name)
        options = variable if isinstance(variable, Mapping) else {}
        choice = (variables or {}).get(name) or text_of(options.get("default"))
        allowed = options.get("enum")
        if not choice or (isinstance(allowed, list) and allowed and choice not in map(text_of, allowed)):
            there = ", ".join(map(text_of, allowed)) if isinstance(allowed, list) else "any text"
            raise InvalidDocument(
                f"The server's variable {name} cannot be {choice!r}.", why=f"it may be {there}", hint=f"--variable {name}=..."
            )
        return choice

    return _VARIABLE.sub(value, text_of(servers[0].get("url")) or "/").rstrip("/") or "/"


def _swagger(document: Document, origin: str) -> str:
    schemes = document.root.get("schemes")
    known = [text_of(each) for each in schemes] if isinstance(schemes, list) else []
    host, path = text_of(document.root.get("host")), text_of(document.root.get("basePath"))
    if not host:
        return path or "/"
    read_from = urlsplit(origin).scheme
    scheme = next((each for each in (read_from, "https", "http") if each in known), read_from or "https")
    return f"{scheme}://{host}{path}"


def _whole(address: str, origin: str) -> str:
    if not address.startswith(("http://", "https://")):
        web = origin.startswith(("http://", "https://"))
        address = urljoin(origin, address) if web else f"https:{address}" if address.startswith("//") else address
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidDocument(
            "The document does not say where the API stands.", why=f"its server is {address}", hint="--server https://..."
        )
    return address.split("?")[0].split("#")[0].rstrip("/")
