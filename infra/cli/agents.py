"""Which agent a command speaks to: a file with its spec, or one that is kept under that name; and tools named beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.agent import AgentSpec
from services.gateway.agent_file import LIMIT, BadAgent, form_of, read_agent

if TYPE_CHECKING:
    from services.gateway.draft import Draft

__all__ = ["LIMIT", "BadAgent", "agent_from", "draft_from", "is_kept", "kept_agent", "with_tools"]


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
