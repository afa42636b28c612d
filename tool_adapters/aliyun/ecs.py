"""An ECS API behind the Tool port."""

from __future__ import annotations

import json
from collections.abc import Sequence

from schemas.tools import Preview, ToolResult
from tool_adapters.aliyun.answers import result_of_answer
from tool_adapters.aliyun.apis import APIS, Api
from tool_adapters.aliyun.cards import card_of
from tool_adapters.aliyun.client import DRY_RUN_PASSED, Answer, Ecs, EcsClient, EcsConfig
from tool_adapters.aliyun.look import Looker
from tool_adapters.aliyun.purchase import Purchase, marked
from tool_adapters.aliyun.sdk import parameters_of
from tool_adapters.aliyun.writes import WRITE_KINDS, Write, described
from tool_adapters.cloud import Arguments, CloudTool, Executed, Progress, State
from tool_adapters.tool import CallContext, Outcome, Tool, ToolRefused

KINDS: dict[str, Write] = {**WRITE_KINDS, "RunInstances": Purchase()}
SENT = 0.6
"""The share of a call's time that the request itself may take."""


def ecs_tools(config: EcsConfig, *, actions: Sequence[str] | None = None) -> list[Tool]:
    """The ECS tools over one client; all of them, or those named. Raises InvalidTool without the SDK."""
    client = EcsClient(config)
    return [EcsTool(api, client) for api in APIS if actions is None or api.action in actions]


class EcsTool(CloudTool):
    """One API: reads are called as they are, writes are planned by looking, priced, tried dry and recognised afterwards."""

    def __init__(self, api: Api, ecs: Ecs) -> None:
        super().__init__(card_of(api), EcsOperation(api, ecs))


class EcsOperation:
    """How one API of ECS is looked at, tried, sent and recognised."""

    def __init__(self, api: Api, ecs: Ecs) -> None:
        self._api = api
        self._ecs = ecs
        self._known = parameters_of(api.action)

    async def look(self, arguments: Arguments, context: CallContext) -> State:
        """The facts that the write depends on."""
        return await self._kind.look(self._looker(arguments, context), arguments)

    async def preview(self, arguments: Arguments, state: State, context: CallContext) -> Preview:
        """What would change, with its price where there is one."""
        return await self._kind.preview(self._looker(arguments, context), arguments, state)

    async def try_dry(self, arguments: Arguments, context: CallContext) -> None:
        """The API's own DryRun, which passes with an error."""
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

    async def execute(self, arguments: Arguments, context: CallContext) -> Executed:
        """Ask the API once. The write key goes along as ClientToken where the API has one."""
        wire = self._wire(arguments)
        writing = self._api.effect != "read"
        if writing and context.write_key and "ClientToken" in self._known:
            wire["ClientToken"] = context.write_key
            if self._api.action == "RunInstances":
                wire = marked(wire, context.write_key)
        timeout_s = context.timeout_s * SENT if writing else context.timeout_s
        answer = await self._ecs.ask(self._api.action, wire, timeout_s=timeout_s, writing=writing)
        result = result_of_answer(self._api, answer)
        if not writing:
            return Executed(result)
        planned: State | None = json.loads(context.planned_state) if context.planned_state else None
        return Executed(result, lambda: self._progress(arguments, context, planned, answer))

    async def outcome(self, arguments: Arguments, planned: State, context: CallContext) -> tuple[Outcome, ToolResult | None]:
        """Compare what it was planned on with the present."""
        now = await self._kind.look(self._looker(arguments, context, context.write_key), arguments)
        outcome = self._kind.outcome(arguments, planned, now)
        if outcome != "happened":
            return outcome, None
        lines = [f"{self._api.action} had succeeded; its answer was lost.", *described(now)]
        return outcome, ToolResult(text="\n".join(lines))

    @property
    def _kind(self) -> Write:
        return KINDS[self._api.action]

    def _looker(self, arguments: Arguments, context: CallContext, write_key: str | None = None) -> Looker:
        return Looker(self._ecs, context.timeout_s, str(arguments.get("RegionId") or self._ecs.region), write_key)

    async def _progress(self, arguments: Arguments, context: CallContext, planned: State | None, answer: Answer) -> Progress:
        return await self._kind.progress(self._looker(arguments, context), arguments, planned, answer)

    def _wire(self, arguments: Arguments) -> dict[str, object]:
        """The arguments as the API takes them: JSON text where it wants that, and what the tool fills by itself."""
        wire: dict[str, object] = {}
        for name, value in arguments.items():
            wire[name] = json.dumps(value) if self._known[name].json_text else value
        if "RegionId" in self._known:
            wire.setdefault("RegionId", self._ecs.region)
        if self._api.action in ("TagResources", "UntagResources", "ListTagResources"):
            wire.setdefault("ResourceType", "instance")
        return wire
