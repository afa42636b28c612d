"""An imported API in use: one session, one set of credentials, a tool for each operation that is called."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import urlsplit

from pydantic import ValidationError

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from tool_adapters.openapi.call import Call, Settings
from tool_adapters.openapi.security import Keys
from tool_adapters.openapi.tool import Api, OperationTool
from tool_adapters.tool import InvalidTool, ToolError
from tool_adapters.web import Web


class Imported(Protocol):
    """A tool as it is stored."""

    @property
    def card(self) -> ToolCard: ...
    @property
    def call(self) -> JsonObject: ...


class OpenApiSource:
    """A source of kind openapi. Raises ToolError for settings that are none."""

    def __init__(self, settings: JsonObject) -> None:
        try:
            said = Settings.model_validate(settings)
        except ValidationError as error:
            raise ToolError("The settings of this API cannot be read.", why=str(error)[:300], hint="import it again") from error
        self._web = Web(reachable(said), hint="import it again with --allow HOST:PORT, if it may be asked")
        self._api = Api(said.server, self._web, Keys(said.auth, said.schemes, self._web))

    def tool(self, spec: Imported) -> OperationTool:
        """The tool of one operation. Raises InvalidTool for what an older version stored otherwise."""
        try:
            return OperationTool(spec.card, Call.model_validate(spec.call), self._api)
        except ValidationError as error:
            raise InvalidTool(
                f"How {spec.card.name} is called cannot be read.", why=str(error)[:300], hint="import it again"
            ) from error

    async def close(self) -> None:
        """Close its connections."""
        await self._web.close()


def reachable(settings: Settings) -> frozenset[str]:
    """The places that need not be public: those that are allowed, and the server that a person named in so many words."""
    places = set(settings.allow)
    if settings.given_server:
        parts = urlsplit(settings.given_server)
        places.add(f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}")
    return frozenset(places)
