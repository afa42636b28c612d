"""The imported operations of AWS in use: their settings, and the tool of each spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pydantic import ValidationError

from schemas.canonical import JsonObject
from schemas.tools import ToolCard, Value
from tool_adapters.aws.client import DRY_RUN_PASSED, AwsClient, AwsConfig
from tool_adapters.cloud import CloudTool
from tool_adapters.described.api import ApiCall
from tool_adapters.described.operation import ApiOperation
from tool_adapters.tool import CallContext, InvalidTool, Tool

ROWS = 1_000
"""How many are collected at most."""


class Spec(Protocol):
    """services.tools.sources.Spec by its shape."""

    @property
    def card(self) -> ToolCard: ...

    @property
    def call(self) -> JsonObject: ...


class Settings(Value):
    """What an import keeps for all its operations. Keys are references (`env:NAME`, `file:PATH`); without them the vendor's
    chain is asked."""

    region: str = "us-east-1"
    endpoint: str | None = None
    access_key_id: str | None = None
    access_key_secret: str | None = None
    security_token: str | None = None


class AwsSource:
    """services.tools.source_shelf.OpenSource over one client. resolve: finds what a reference names."""

    def __init__(self, settings: JsonObject, resolve: Callable[[str], str]) -> None:
        try:
            said = Settings.model_validate(settings)
        except ValidationError as error:
            raise InvalidTool(
                "The settings of the AWS operations cannot be read.", why=str(error)[:300], hint="milepost tools import aws"
            ) from error

        def configured() -> AwsConfig:
            keys = [
                resolve(each) if each else None for each in (said.access_key_id, said.access_key_secret, said.security_token)
            ]
            return AwsConfig(said.region, said.endpoint, *keys)

        self._provider = AwsProvider(AwsClient(said.region, configured))

    def tool(self, spec: Spec) -> Tool:
        """The tool of a spec. Raises InvalidTool."""
        try:
            call = ApiCall.model_validate(spec.call)
        except ValidationError as error:
            why = "it was imported by another version"
            raise InvalidTool(
                f"How {spec.card.name} is called is not known.", why=why, hint="milepost tools import aws"
            ) from error
        return CloudTool(spec.card, ApiOperation(spec.card, call, self._provider, {}, DRY_RUN_PASSED))

    async def close(self) -> None:
        """Nothing has to be let go of."""


class AwsProvider:
    """tool_adapters.described.operation.Provider over boto3."""

    def __init__(self, aws: AwsClient) -> None:
        self._aws = aws

    def region_of(self, call: ApiCall, arguments: Mapping[str, object]) -> str:
        """The one of the settings."""
        return self._aws.region

    async def ask(
        self, call: ApiCall, arguments: Mapping[str, object], *, timeout_s: float, token: str | None = None,
        dry_run: bool = False, writing: bool = False,
    ) -> object:  # fmt: skip
        """Ask once, with the client token or for a dry run where the operation has it."""
        given = dict(arguments)
        if call.token and token:
            given[call.token] = token
        if call.dry_run and dry_run:
            given[call.dry_run] = True
        return await self._aws.ask(call.product, call.action, given, timeout_s=timeout_s, writing=writing)

    async def read(
        self, call: ApiCall, arguments: Mapping[str, object], context: CallContext
    ) -> tuple[object, tuple[str, ...]]:  # fmt: skip
        """As far as botocore's paginators know how, to a limit that is said."""
        answer, more = await self._aws.pages(call.product, call.action, arguments, timeout_s=context.timeout_s, most=ROWS)
        return answer, ((f"These are {ROWS} rows, and there are more: ask for less.",) if more else ())
