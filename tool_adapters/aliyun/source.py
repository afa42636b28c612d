"""The imported APIs of Alibaba Cloud in use: their settings, and the tool of each spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pydantic import Field, ValidationError

from schemas.canonical import JsonObject
from schemas.tools import ToolCard, Value
from tool_adapters.aliyun.client import DRY_RUN_PASSED
from tool_adapters.aliyun.core import REGION, Core, Endpoints, Keys, SdkCore
from tool_adapters.aliyun.provider import AliyunProvider
from tool_adapters.cloud import CloudTool
from tool_adapters.described.api import ApiCall, Companion
from tool_adapters.described.operation import ApiOperation
from tool_adapters.tool import InvalidTool, Tool


class Spec(Protocol):
    """services.tools.sources.Spec by its shape."""

    @property
    def card(self) -> ToolCard: ...

    @property
    def call(self) -> JsonObject: ...


class Settings(Value):
    """What an import keeps for all its APIs.

    endpoints: host[:port] by product, `*` for all. access_key_id, access_key_secret, security_token: references
    (`env:NAME`, `file:PATH`); without them the vendor's chain is asked. products: as `metadata.products` gives them.
    """

    region: str = REGION
    endpoints: dict[str, str] = Field(default_factory=dict)
    access_key_id: str | None = None
    access_key_secret: str | None = None
    security_token: str | None = None
    products: dict[str, dict[str, object]] = Field(default_factory=dict)


class AliyunSource:
    """services.tools.source_shelf.OpenSource over one core. resolve: finds what a reference names."""

    def __init__(self, settings: JsonObject, resolve: Callable[[str], str], core: Core | None = None) -> None:
        try:
            self._settings = Settings.model_validate(settings)
        except ValidationError as error:
            raise InvalidTool("The settings of the Alibaba Cloud APIs cannot be read.", why=str(error)[:300],
                              hint="milepost tools import aliyun") from error  # fmt: skip
        said = self._settings
        endpoints = Endpoints(said.region, said.products, said.endpoints)
        keys = Keys(said.access_key_id, said.access_key_secret, said.security_token)
        self._provider = AliyunProvider(core or SdkCore(endpoints, keys, resolve), said.region)

    def tool(self, spec: Spec) -> Tool:
        """The tool of a spec. Raises InvalidTool."""
        card = spec.card
        try:
            api = ApiCall.model_validate(spec.call)
            jobs = {
                name: Companion.model_validate(job)
                for name, job in dict_of(self._settings.products.get(api.product, {}).get("jobs")).items()
            }
        except ValidationError as error:
            why = "it was imported by another version"
            raise InvalidTool(
                f"How {card.name} is called is not known.", why=why, hint="milepost tools import aliyun"
            ) from error
        return CloudTool(card, ApiOperation(card, api, self._provider, jobs, DRY_RUN_PASSED))

    async def close(self) -> None:
        """Nothing stays open: the SDK connects for each call."""


def dict_of(value: object) -> dict[str, object]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}
