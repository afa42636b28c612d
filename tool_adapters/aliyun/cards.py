"""Tool cards of the ECS APIs, joined from our table and the SDK's own models."""

from __future__ import annotations

from schemas.tools import ToolCard
from tool_adapters.aliyun.apis import Api
from tool_adapters.aliyun.sdk import Parameter, described, parameters_of
from tool_adapters.tool import InvalidTool, checked_card

LANE = "aliyun"

# The tool fills these itself: the region from its settings, the resource type because only one makes sense here.
FILLED = frozenset({"RegionId", "ResourceType"})


def card_of(api: Api) -> ToolCard:
    """The card of an API. Raises InvalidTool where our table and the SDK disagree."""
    known = parameters_of(api.action)
    if unknown := [name for name in (*api.parameters, *api.choices) if name not in known]:
        raise InvalidTool(f"{api.action} of the SDK has no parameter {', '.join(unknown)}.")
    chosen = [known[name] for name in api.parameters]
    return checked_card(
        ToolCard(
            name=api.action,
            title=api.action,
            description=api.description,
            parameters={
                "type": "object",
                "properties": {one.name: _property(api, one) for one in chosen},
                "required": [one.name for one in chosen if _required(api, one)],
                "additionalProperties": False,
            },
            effect=api.effect,
            idempotency=api.idempotency,
            lane=LANE,
            examples=api.examples,
            tags=("alibaba cloud", "ecs"),
            timeout_s=60 if api.effect != "read" else 30,
            owner="Alibaba Cloud",
            dry_run="none" if api.effect == "read" else "provider" if "DryRun" in known else "look",
            undo=api.undo,
        )
    )


def _required(api: Api, parameter: Parameter) -> bool:
    return parameter.name in api.required or (parameter.required and parameter.name not in FILLED)


def _property(api: Api, parameter: Parameter) -> dict[str, object]:
    entry = described(parameter)
    if choices := api.choices.get(parameter.name):
        entry["enum"] = list(choices)
    return entry
