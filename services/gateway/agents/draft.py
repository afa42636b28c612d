"""What a person writes of an agent, before it is a version of anything, and what it must be like to be kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from schemas.agent import AgentSpec
from schemas.canonical import canonical
from schemas.errors import MilepostError
from schemas.ids import Token
from schemas.tools import Value
from services.gateway.agents.fields import first_unknown

SPEC_BYTES = 256 * 1024
MOST_TOOLS = 128
NEW = "new"
_EMOJI = 16
_TOOL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IMAGE = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")

Suggestion = Annotated[str, Field(min_length=1, max_length=500)]


class UnfitAgent(MilepostError):
    """An agent cannot be kept like this. field: where the fault is, with dots."""

    def __init__(self, field: str, why: str, hint: str = "") -> None:
        super().__init__("The agent cannot be kept like this.", why=f"{field}: {why}", hint=hint or f"change {field}")
        self.field = field


def _known_only(values: object) -> object:
    if isinstance(values, Mapping) and (found := first_unknown(values, AgentSpec)):
        raise ValueError(f"{found.field} is no field of an agent{f'; did you mean {found.close}?' if found.close else ''}")
    return values


class Draft(Value):
    """An agent that nobody has kept yet. Its spec's name and version are those under which it is kept.

    title: its name for people. picture: an emoji, or a data URL of a PNG, JPEG, WebP or GIF. suggestions: what a person may
    begin with.
    """

    name: Token
    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=2000)
    picture: str = Field(default="", max_length=200_000)
    suggestions: tuple[Suggestion, ...] = Field(default=(), max_length=12)
    spec: Annotated[AgentSpec, BeforeValidator(_known_only)] = AgentSpec()

    def pinned(self, version: int | str) -> AgentSpec:
        """The spec as a run pins it."""
        return self.spec.model_copy(update={"name": self.name, "version": str(version)})


def checked(draft: Draft, models: tuple[str, ...] = ()) -> Draft:
    """The draft, if it can be kept. models: names that are a model's, and so no agent's. Raises UnfitAgent."""
    spec = draft.spec
    if draft.name == NEW:
        raise UnfitAgent("name", f"{NEW} is what the console calls one that has no name yet", "give another one")
    if draft.name in models:
        raise UnfitAgent("name", f"{draft.name} is the name of a model", "give another one")
    if draft.picture and len(draft.picture) > _EMOJI and not _IMAGE.fullmatch(draft.picture):
        raise UnfitAgent("picture", "it is neither an emoji nor a data URL of a PNG, JPEG, WebP or GIF")
    for field, names in (("tools", spec.tools), ("forbidden", spec.forbidden)):
        if len(names) > MOST_TOOLS:
            raise UnfitAgent(field, f"{len(names)} names are too many, {MOST_TOOLS} may be", "let more be found: tool_k")
        for name in names:
            if not _TOOL.fullmatch(name):
                raise UnfitAgent(field, f"{name!r} is no name of a tool", "milepost tools ls")
    if both := sorted(set(spec.tools) & set(spec.forbidden)):
        raise UnfitAgent("forbidden", f"{both[0]} is offered and forbidden")
    names_of_rules = [rule.name for rule in spec.policy]
    if twice := sorted({name for name in names_of_rules if names_of_rules.count(name) > 1}):
        raise UnfitAgent("policy", f"two rules have the name {twice[0]}")
    if (size := len(canonical(spec.model_dump(mode="json", by_alias=True)))) > SPEC_BYTES:
        raise UnfitAgent("examples", f"the agent has {size} bytes, {SPEC_BYTES} may be", "shorten what is longest")
    return draft
