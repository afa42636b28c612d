"""Which agent a command speaks to: a file with its spec, or one that is kept under that name; and tools named beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.agent import AgentSpec
from services.gateway.agents.file import LIMIT, BadAgent, form_of, read_agent

if TYPE_CHECKING:
    from services.gateway.agents.draft import Draft

__all__ = ["LIMIT", "BadAgent", "agent_from", "agent_named", "draft_from", "with_tools"]
_KEPT = re.compile(r"(?P<name>[A-Za-z0-9_-]{1,64})(@(?P<version>[0-9]{1,9}))?")


def agent_from(file: Path | None, tools: Sequence[str] = ()) -> AgentSpec:
    """The agent of a TOML, YAML or JSON file, or the default one; tools: more that it always offers. Raises BadAgent."""
    return with_tools(draft_from(file).spec if file else AgentSpec(), tools)


def draft_from(file: Path) -> Draft:
    """All that a file says of an agent. Raises BadAgent."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise BadAgent(f"{file} cannot be read.", why=error.strerror or str(error), hint="check the path") from error
    return read_agent(raw, form_of(file.name), str(file))


def with_tools(spec: AgentSpec, tools: Sequence[str]) -> AgentSpec:
    """The spec that always offers these tools, too."""
    return spec.model_copy(update={"tools": tuple(dict.fromkeys((*spec.tools, *tools)))})


def agent_named(agent: Path | None, tools: Sequence[str] = (), home: Path | None = None) -> AgentSpec:
    """The agent of a file, or the one that is kept under that name (NAME or NAME@VERSION) where no file is called so.

    Without a version it is the one that is published, else the newest. Raises BadAgent, NotThere, NotRunning.
    """
    named = _KEPT.fullmatch(str(agent)) if agent is not None and not agent.exists() else None
    if named is None:
        return agent_from(agent, tools)
    from infra.cli.agents_kept import kept_spec

    return with_tools(kept_spec(named["name"], int(named["version"]) if named["version"] else None, home), tools)
