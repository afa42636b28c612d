"""One request as the actions see it: flat RPC parameters, read with the real service's errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from infra.demo_cloud.errors import CloudError, missing
from infra.demo_cloud.world import Effect, Resource, World

_NOT_PART_OF_THE_REQUEST = frozenset({"ClientToken"})


@dataclass(frozen=True, slots=True)
class Request:
    """params: flat, lists as `InstanceId.1`, `Tag.1.Key`. transition_s: how long starting and stopping take."""

    action: str
    params: Mapping[str, str]
    request_id: str
    now: datetime
    transition_s: float = 2.0

    @property
    def token(self) -> str | None:
        """The client token, if one was given."""
        return self.params.get("ClientToken") or None

    def fingerprint(self) -> str:
        """The parameters that must be the same when a client token is used again."""
        return json.dumps({k: v for k, v in sorted(self.params.items()) if k not in _NOT_PART_OF_THE_REQUEST})

    def text(self, name: str) -> str:
        """A parameter that must be there."""
        value = self.params.get(name, "")
        if not value:
            raise missing(name)
        return value

    def optional(self, name: str) -> str | None:
        """A parameter that may be absent."""
        return self.params.get(name) or None

    def flag(self, name: str) -> bool:
        """A boolean parameter, false when absent."""
        value = self.params.get(name, "false").lower()
        if value not in ("true", "false"):
            raise CloudError(400, f"InvalidParameter.{name}", f"The specified parameter {name} is not valid.")
        return value == "true"

    def number(self, name: str, default: int) -> int:
        """An integer parameter."""
        try:
            return int(self.params.get(name) or default)
        except ValueError as error:
            raise CloudError(400, f"InvalidParameter.{name}", f"The specified parameter {name} is not valid.") from error

    def listed(self, name: str) -> list[str]:
        """The items `name.1`, `name.2` ... in order."""
        found = [(int(m[1]), v) for k, v in self.params.items() if (m := re.fullmatch(rf"{name}\.(\d+)", k))]
        return [value for _, value in sorted(found)]

    def json_list(self, name: str) -> list[str] | None:
        """A parameter whose text is a JSON array of strings, such as InstanceIds."""
        if (text := self.optional(name)) is None:
            return None
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or len(value) > 100:
            raise CloudError(400, f"InvalidParameter.{name}", f"The specified parameter {name} is not a valid JSON array.")
        return value

    def tags(self) -> dict[str, str]:
        """The pairs `Tag.N.Key` and `Tag.N.Value`."""
        numbers = sorted({int(m[1]) for k in self.params if (m := re.match(r"Tag\.(\d+)\.", k))})
        return {self.text(f"Tag.{n}.Key"): self.params.get(f"Tag.{n}.Value", "") for n in numbers}

    def pass_dry_run(self) -> None:
        """End a dry run that went well, as the service does: with an error, which also undoes what the action did."""
        if self.flag("DryRun"):
            raise CloudError(400, "DryRunOperation", "Request validation has been passed with DryRun flag set.")

    def record(self, world: World, resource: str, order_id: str | None = None) -> None:
        """Write this request's effect on a resource into the journal."""
        world.record(Effect(self.now, self.request_id, self.action, resource, order_id, self.token, dict(self.params)))


def page(request: Request, items: Sequence[Resource], outer: str, inner: str) -> Resource:
    """One page of items, by NextToken and MaxResults, or by PageNumber and PageSize as the older style has it."""
    size = min(max(request.number("MaxResults", request.number("PageSize", 10)), 1), 100)
    if token := request.optional("NextToken"):
        if not token.isdigit():
            raise CloudError(400, "InvalidParameter.NextToken", "The specified NextToken is not valid.")
        start = int(token)
    else:
        start = (max(request.number("PageNumber", 1), 1) - 1) * size
    following = start + size
    return {
        outer: {inner: list(items[start:following])},
        "TotalCount": len(items),
        "PageNumber": start // size + 1,
        "PageSize": size,
        "NextToken": str(following) if following < len(items) else "",
    }


def tags_of(resource: Resource) -> dict[str, str]:
    """A resource's tags as a dictionary."""
    tags = resource.get("Tags")
    return {tag["TagKey"]: tag["TagValue"] for tag in tags["Tag"]} if isinstance(tags, dict) else {}
