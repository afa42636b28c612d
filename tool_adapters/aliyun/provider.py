"""Alibaba Cloud as the provider of described APIs."""

from __future__ import annotations

from collections.abc import Mapping

from tool_adapters.aliyun.calls import request_of
from tool_adapters.aliyun.core import Core
from tool_adapters.aliyun.paging import read_on
from tool_adapters.described.api import ApiCall
from tool_adapters.tool import CallContext


class AliyunProvider:
    """tool_adapters.described.operation.Provider over a core. region: where no argument says another."""

    def __init__(self, core: Core, region: str) -> None:
        self._core, self._region = core, region

    def region_of(self, call: ApiCall, arguments: Mapping[str, object]) -> str:
        """As the call says, or the settings."""
        return str(arguments.get(call.region or "RegionId") or self._region)

    async def ask(
        self, call: ApiCall, arguments: Mapping[str, object], *, timeout_s: float, token: str | None = None,
        dry_run: bool = False, writing: bool = False,
    ) -> object:  # fmt: skip
        """Make the request and send it once."""
        region = self.region_of(call, arguments)
        request = request_of(call, arguments, region=region, token=token, dry_run=dry_run)
        return await self._core.send(call, request, region=region, timeout_s=timeout_s, writing=writing)

    async def read(
        self, call: ApiCall, arguments: Mapping[str, object], context: CallContext
    ) -> tuple[object, tuple[str, ...]]:  # fmt: skip
        """Page by page, to a limit that is said."""
        timeout_s = context.timeout_s
        return await read_on(call, dict(arguments), lambda given: self.ask(call, given, timeout_s=timeout_s), timeout_s)
