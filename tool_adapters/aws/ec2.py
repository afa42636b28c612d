"""The EC2 life cycle as tools: each operation that is shipped, and how it is looked at, tried, sent and recognised."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from schemas.tools import Preview, ToolResult
from tool_adapters.aws.apis import APIS, Api, card_of
from tool_adapters.aws.client import DRY_RUN_PASSED, Answer, Aws, AwsClient, AwsConfig
from tool_adapters.aws.writes import WRITE_KINDS, Looker, Write
from tool_adapters.cloud import Arguments, CloudTool, Executed, Progress, State, at, rows_at
from tool_adapters.described.told import told
from tool_adapters.tool import CallContext, Outcome, Tool, ToolRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

SENT = 0.6
"""The share of a call's time that the request itself may take."""
SHOWN = 50
"""How many rows a model reads."""


def ec2_tools(region: str, configured: Callable[[], AwsConfig], *, names: Sequence[str] | None = None) -> list[Tool]:
    """The EC2 tools over one client; all of them, or those named. configured: asked when the first of them is called."""
    client = AwsClient(region, configured)
    return [Ec2Tool(api, client) for api in APIS if names is None or api.name in names]


class Ec2Tool(CloudTool):
    """One operation."""

    def __init__(self, api: Api, aws: Aws) -> None:
        super().__init__(card_of(api), Ec2Operation(api, aws))


class Ec2Operation:
    """Reads are asked as they are; writes are looked at, priced, tried dry, followed to their end and recognised afterwards."""

    def __init__(self, api: Api, aws: Aws) -> None:
        self._api, self._aws = api, aws

    async def look(self, arguments: Arguments, context: CallContext) -> State:
        """The facts that the write depends on."""
        return await self._kind.look(self._looker(context), arguments)

    async def preview(self, arguments: Arguments, state: State, context: CallContext) -> Preview:
        """What would change, with its price where there is one."""
        return await self._kind.preview(self._looker(context), arguments, state)

    async def try_dry(self, arguments: Arguments, context: CallContext) -> None:
        """The operation's own DryRun, which passes with an error."""
        if not self._api.dry_run:
            return
        wire = self._kind.wire(arguments, None) | {"DryRun": True}
        try:
            await self._aws.ask(self._api.service, self._api.operation, wire, timeout_s=context.timeout_s)
        except ToolRefused as error:
            if error.code in DRY_RUN_PASSED:
                return
            raise
        raise ToolRefused(
            f"{self._api.operation} answered a dry run as if it had been meant.", code="DryRunIgnored", hint="look what it did"
        )

    async def execute(self, arguments: Arguments, context: CallContext) -> Executed:
        """Ask the operation once. The write key goes along as client token where it takes one."""
        service, operation = self._api.service, self._api.operation
        if self._api.effect == "read":
            answer = await self._aws.ask(service, operation, self._api.wire(arguments), timeout_s=context.timeout_s)
            whole = await told(answer, (), context)
            return Executed(whole.model_copy(update={"text": _text_of(self._api, answer)}))
        wire = self._kind.wire(arguments, context.write_key)
        answer = await self._aws.ask(service, operation, wire, timeout_s=context.timeout_s * SENT, writing=True)
        planned: State | None = json.loads(context.planned_state) if context.planned_state else None
        whole = await told(answer, (), context)
        result = whole.model_copy(update={"text": f"{operation} succeeded."})
        return Executed(result, lambda: self._progress(arguments, context, planned, answer))

    async def outcome(self, arguments: Arguments, planned: State, context: CallContext) -> tuple[Outcome, ToolResult | None]:
        """Compare what it was planned on with the present."""
        now = await self._kind.look(self._looker(context, context.write_key), arguments)
        outcome = self._kind.outcome(arguments, planned, now)
        if outcome != "happened":
            return outcome, None
        return outcome, ToolResult(text=f"{self._api.operation} had succeeded; its answer was lost.")

    @property
    def _kind(self) -> Write:
        return WRITE_KINDS[self._api.operation]

    def _looker(self, context: CallContext, write_key: str | None = None) -> Looker:
        return Looker(self._aws, context.timeout_s, write_key)

    async def _progress(self, arguments: Arguments, context: CallContext, planned: State | None, answer: Answer) -> Progress:
        return await self._kind.progress(self._looker(context), arguments, planned, answer)


def _text_of(api: Api, answer: Answer) -> str:
    """The rows that matter, one line each."""
    rows = [inner for row in rows_at(answer, api.items) for inner in (rows_at(row, api.inner) if api.inner else [row])]
    shown = f"{len(rows)} found." if len(rows) <= SHOWN else f"{SHOWN} of {len(rows)} shown: ask for less."
    lines = [shown, *(_line(row, api.fields) for row in rows[:SHOWN])]
    if token := answer.get("NextToken"):
        lines.append(f"More with NextToken={token}")
    return "\n".join(lines)


def _line(row: Mapping[str, object], fields: tuple[str, ...]) -> str:
    pairs = ((field.split(".")[0], at(row, field)) for field in fields)
    return ", ".join(f"{name}: {_text(value)}" for name, value in pairs if value not in (None, "", []))


def _text(value: object) -> str:
    if isinstance(value, list):
        tags = [f"{one['Key']}={one.get('Value', '')}" for one in value if isinstance(one, dict) and "Key" in one]
        return " | ".join(tags or (str(one) for one in value))
    return str(value)
