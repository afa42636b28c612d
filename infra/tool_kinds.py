"""Which adapter makes the tools of which kind of source: the one list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from infra.settings import Cloud
from runtime.bus import Bus
from schemas.canonical import JsonObject
from services.tools.source_shelf import OpenSource
from services.tools.sources import Source, SourceKind
from tool_adapters.agent import ClientOf
from tool_adapters.tool import ToolError


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an adapter finds around it. home: the data directory; bus: for tools that are asked over it; clients: on whose
    behalf agents are asked."""

    home: Path
    bus: Bus
    clients: ClientOf | None = None


Factory: TypeAlias = Callable[[Source, Surroundings], OpenSource]
"""Makes a source ready to use, without any I/O. Raises ToolError for settings that it cannot use."""


def open_source(source: Source, around: Surroundings) -> OpenSource:
    """A source in use. Raises ToolError for a kind that this version does not know, and what its adapter raises."""
    make = FACTORIES.get(source.kind)
    if make is None:
        raise ToolError(f"Nothing here can host {source.kind} tools.", why=f"the source {source.lane} is of that kind")
    return make(source, around)


def _openapi(source: Source, _: Surroundings) -> OpenSource:
    from tool_adapters.openapi.source import OpenApiSource

    return OpenApiSource(source.settings)


def _mcp(source: Source, _: Surroundings) -> OpenSource:
    from tool_adapters.mcp.settings import require_sdk
    from tool_adapters.references import found

    require_sdk()
    from tool_adapters.mcp.source import McpSource

    return McpSource(source.settings, found, lane=source.lane)


def _aliyun(source: Source, _: Surroundings) -> OpenSource:
    from infra.settings import load
    from tool_adapters.aliyun.source import AliyunSource
    from tool_adapters.references import found

    return AliyunSource({**source.settings, **_cloud(load().settings.cloud, source)}, found)


def _cloud(cloud: Cloud, source: Source) -> JsonObject:
    """What the stack's own cloud is reached by, for an import that names neither keys nor places."""
    from infra.demo_cloud.server import DEMO_ACCESS_KEY_ID

    said = source.settings
    if said.get("access_key_id") or cloud.access_key_id is None or cloud.access_key_secret is None:
        return {}
    secret = cloud.access_key_secret.get_secret_value()
    keys: JsonObject = {"access_key_id": f"text:{cloud.access_key_id}", "access_key_secret": f"text:{secret}"}
    if said.get("endpoints") or not cloud.endpoint:
        return keys
    product = "*" if cloud.access_key_id == DEMO_ACCESS_KEY_ID else "ecs"  # the demo's keys are for nobody else
    return keys | {"endpoints": {product: cloud.endpoint}}


def _code(source: Source, _: Surroundings) -> OpenSource:
    from tool_adapters.own_process.parent import CodeSource

    return CodeSource(source.settings)


def _aws(source: Source, _: Surroundings) -> OpenSource:
    from infra.settings import load
    from tool_adapters.aws.source import AwsSource
    from tool_adapters.references import found

    aws, said = load().settings.aws, dict(source.settings)
    if not said.get("access_key_id") and aws.access_key_id and aws.access_key_secret:
        said |= {
            "access_key_id": f"text:{aws.access_key_id}",
            "access_key_secret": f"text:{aws.access_key_secret.get_secret_value()}",
        }
    return AwsSource(said, found)


def _agent(source: Source, around: Surroundings) -> OpenSource:
    from tool_adapters.agent import AgentSource

    if around.clients is None:
        raise ToolError("No agent can be asked from here.", why="there is no log to begin runs in")
    return AgentSource(source.settings, around.clients, lane=source.lane)


FACTORIES: Mapping[SourceKind, Factory] = {
    "agent": _agent,
    "aliyun": _aliyun,
    "aws": _aws,
    "folder": _code,
    "mcp": _mcp,
    "openapi": _openapi,
    "package": _code,
}
