"""Looking at what a write would touch: the few facts it depends on, as canonical JSON makes them its state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tool_adapters.aliyun.client import Answer, Ecs
from tool_adapters.cloud import State
from tool_adapters.tool import ToolRefused


@dataclass(frozen=True, slots=True)
class Looker:
    """Reads through one client with one time limit per question.

    region: where to look first. write_key: of the write that is looked for, once it may have been sent.
    """

    ecs: Ecs
    timeout_s: float
    region: str
    write_key: str | None = None

    async def ask(self, action: str, **arguments: object) -> Answer:
        """Ask a read-only API."""
        return await self.ecs.ask(action, arguments, timeout_s=self.timeout_s)

    async def instances(self, names: Sequence[str]) -> list[Answer]:
        """The instances of these ids that exist, in this order, whichever region they are in."""
        found = await self._in_region(self.region, names)
        for name in names:
            if name not in found and (region := await self._region_of(name)):
                found |= await self._in_region(region, [name])
        return [found[name] for name in names if name in found]

    async def _in_region(self, region: str, names: Sequence[str]) -> dict[str, Answer]:
        answer = await self.ask("DescribeInstances", RegionId=region, InstanceIds=json.dumps(list(names)), MaxResults=100)
        return {str(one["InstanceId"]): one for one in inner(answer, "Instances", "Instance")}

    async def _region_of(self, name: str) -> str:
        try:
            return str((await self.ask("DescribeInstanceAttribute", InstanceId=name)).get("RegionId", ""))
        except ToolRefused as error:
            if error.code == "InvalidInstanceId.NotFound":
                return ""
            raise


def inner(answer: Mapping[str, object], outer: str, name: str) -> list[Answer]:
    """The rows of `{outer: {name: [...]}}`, as RPC answers nest their lists."""
    box = answer.get(outer)
    rows = box.get(name) if isinstance(box, Mapping) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def facts(instance: Mapping[str, object], names: Sequence[str]) -> State:
    """The named facts of an instance; locks and tags in their short form."""
    short: dict[str, object] = {
        "OperationLocks": [lock.get("LockReason") for lock in inner(instance, "OperationLocks", "LockReason")],
        "Tags": {str(tag.get("TagKey")): tag.get("TagValue") for tag in inner(instance, "Tags", "Tag")},
    }
    return {name: short.get(name, instance.get(name)) for name in names}
