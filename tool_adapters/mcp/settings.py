"""What is needed to reach an MCP server: kept with the source, so that any tools process can; secrets by reference."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator

from schemas.canonical import JsonObject
from schemas.tools import Value
from tool_adapters.tool import InvalidTool

REFERENCES = ("env:", "file:", "text:")
"""How a value is given: found in the tools process's environment or in a file there, or plain because it is no secret."""


class OAuth(Value):
    """A client's own credentials (OAuth 2.1, grant client_credentials); nobody signs in in a browser."""

    client_id: str
    client_secret: str
    issuer: str
    scope: str | None = None


class McpSettings(Value):
    """One server: a command that speaks over its standard input and output, or an address (streamable HTTP).

    env, headers, oauth's secret: references (`env:NAME`, `file:PATH`, `text:VALUE`). allow: `host:port` places that may be
    reached although they are not public. protocol: the newest that both know, or the one that a server needs.
    open_s: how long it may take to be there.
    """

    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str | None = None
    url: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    oauth: OAuth | None = None
    allow: tuple[str, ...] = ()
    protocol: Literal["auto", "legacy", "2026-07-28"] = "auto"
    open_s: float = Field(default=60.0, gt=0, le=600)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("a server is a command or an address, one of them")
        if self.url and (urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname):
            raise ValueError(f"{self.url} is no http or https address")
        if self.url and "@" in urlsplit(self.url).netloc:
            raise ValueError("an address carries no user name or password; give a header by reference")
        references = [*self.env.items(), *self.headers.items()]
        if self.oauth is not None:
            references.append(("client secret", self.oauth.client_secret))
        for name, reference in references:
            if not reference.startswith(REFERENCES):
                raise ValueError(f"the value of {name} is to be given as env:NAME, file:PATH, or text:VALUE if it is no secret")
        return self

    @property
    def place(self) -> str:
        """What it is called in messages: the command or the address, without what may be secret."""
        if self.command:
            return shlex.join([self.command, *self.args])[:200]
        split = urlsplit(self.url)
        return f"{split.scheme}://{split.netloc}{split.path}"


def require_sdk() -> None:
    """Raises InvalidTool where the official SDK is not installed."""
    if find_spec("mcp") is None:
        raise InvalidTool(
            "MCP is not installed.",
            why="its SDK is an extra",
            hint="pip install 'milepost[mcp]', here and where the tools service runs",
        )


def settings_of(said: JsonObject) -> McpSettings:
    """Settings as they were kept or typed. Raises InvalidTool."""
    try:
        return McpSettings.model_validate(said)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidTool(
            "This is no MCP server that can be reached.", why=str(fault["msg"]).removeprefix("Value error, "),
            hint="milepost tools import mcp --help",
        ) from error  # fmt: skip
