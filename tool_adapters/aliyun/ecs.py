"""An ECS API behind the Tool port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress

from schemas.canonical import canonical
from schemas.tools import ToolResult
from tool_adapters.aliyun.answers import result_of_answer
from tool_adapters.aliyun.apis import APIS, Api
from tool_adapters.aliyun.cards import card_of
from tool_adapters.aliyun.client import DRY_RUN_PASSED, Ecs, EcsClient, EcsConfig
from tool_adapters.aliyun.look import Looker, State
from tool_adapters.aliyun.sdk import parameters_of
from tool_adapters.aliyun.writes import WRITE_KINDS, described
from tool_adapters.tool import CallContext, Plan, Reconciled, Tool, ToolError, ToolRefused, answered, read_only, validate

AFTER_S = 2.0  # how long a call that has changed something may look at the outcome


def ecs_tools(config: EcsConfig, *, actions: Sequence[str] | None = None) -> list[Tool]:
    """The ECS tools over one client; all of them, or those named. Raises InvalidTool without the SDK."""
    client = EcsClient(config)
    return [EcsTool(api, client) for api in APIS if actions is None or api.action in actions]


class EcsTool:
    """One API: reads are called as they are, writes are planned by looking, priced, tried dry and recognised afterwards."""

    def __init__(self, api: Api, ecs: Ecs) -> None:
        self.card = card_of(api)
        self._api = api
        self._ecs = ecs
        self._known = parameters_of(api.action)

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        """Look at what the write would touch, and let the provider check it by a dry run where it offers one."""
        if self._api.effect == "read":
            raise read_only(self.card)
        validate(self.card, arguments)
        kind, looker = WRITE_KINDS[self._api.action], self._looker(arguments, context)
        state = await kind.look(looker, arguments)
        preview = await kind.preview(looker, arguments, state)
        await self._try_dry(arguments, context)
        return Plan(preview, canonical(state).decode())

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        """Ask the API once. The write key goes along as ClientToken where the API has one."""
        validate(self.card, arguments)
        wire = self._wire(arguments)
        writing = self._api.effect != "read"
        if writing and context.write_key and "ClientToken" in self._known:
            wire["ClientToken"] = context.write_key
        after_s = min(AFTER_S, context.timeout_s / 4) if writing else 0.0
        answer = await self._ecs.ask(self._api.action, wire, timeout_s=context.timeout_s - after_s, writing=writing)
        after = await self._after(arguments, context, after_s) if writing else ()
        return answered(self.card, result_of_answer(self._api, answer, after))

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        """Compare the state that the write was planned on with the present one.

        `unknown` of an API with a ClientToken (idempotency "key") may be called again with the same write key.
        """
        if self._api.effect == "read":
            return Reconciled("not_happened")
        if context.planned_state is None:
            return Reconciled("unknown")
        kind = WRITE_KINDS[self._api.action]
        planned: State = json.loads(context.planned_state)
        now = await kind.look(self._looker(arguments, context), arguments)
        outcome = kind.outcome(arguments, planned, now)
        if outcome != "happened":
            return Reconciled(outcome)
        lines = [f"{self._api.action} had succeeded; its answer was lost.", *described(now)]
        return Reconciled(outcome, ToolResult(text="\n".join(lines)))

    def _looker(self, arguments: dict[str, object], context: CallContext) -> Looker:
        return Looker(self._ecs, context.timeout_s, str(arguments.get("RegionId") or self._ecs.region))

    async def _after(self, arguments: dict[str, object], context: CallContext, limit_s: float) -> Sequence[str]:
        """How the world looks now. The write has happened: a question that fails or takes long must not hide that."""
        lines: Sequence[str] = ()
        with suppress(ToolError, TimeoutError):
            async with asyncio.timeout(limit_s):
                lines = described(await WRITE_KINDS[self._api.action].look(self._looker(arguments, context), arguments))
        return lines

    async def _try_dry(self, arguments: dict[str, object], context: CallContext) -> None:
        if "DryRun" not in self._known:
            return
        wire = self._wire(arguments) | {"DryRun": True}
        try:
            await self._ecs.ask(self._api.action, wire, timeout_s=context.timeout_s)
        except ToolRefused as error:
            if error.code in DRY_RUN_PASSED:
                return
            raise
        raise ToolRefused(
            f"{self._api.action} answered a dry run as if it had been meant.",
            code="DryRunIgnored",
            hint="look what it did",
        )

    def _wire(self, arguments: dict[str, object]) -> dict[str, object]:
        """The arguments as the API takes them: JSON text where it wants that, and what the tool fills by itself."""
        wire: dict[str, object] = {}
        for name, value in arguments.items():
            wire[name] = json.dumps(value) if self._known[name].json_text else value
        if "RegionId" in self._known:
            wire.setdefault("RegionId", self._ecs.region)
        if self._api.action == "TagResources":
            wire.setdefault("ResourceType", "instance")
        return wire
