"""`milepost tools import agent`: an agent for other agents to ask, hosted by the stack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import DryRun, Home, Json, Wait
from infra.cli.show import use_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.client import Client
    from services.tools.sources import Source, Spec


def add_to(imports: typer.Typer) -> None:
    """Add this file's command."""
    imports.command()(agent)


def agent(
    file: Annotated[Path, typer.Argument(help="The TOML or JSON file with the agent's spec.", show_default=False)],
    description: Annotated[str, typer.Option(help="When to ask it, for the model that does.", show_default=False)],
    dry_run: DryRun = False, wait: Wait = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Make an agent a tool of its name: each call of it is a run of its own. Again after each change of the file."""
    from infra.cli.tools_import import new_source, run_import
    from tool_adapters.agent import LANE
    from tool_adapters.names import tool_name

    use_json(json)
    spec = _spec(file)
    lane = f"{LANE}{tool_name(spec['name'])}"[:64]
    settings: dict[str, object] = {"file": str(file.resolve()), "description": description, "spec": spec}
    source, specs, groups = _with_card(new_source("agent", lane, settings, str(file.resolve()), home))
    run_import(source, specs, groups, dry_run=dry_run, wait=wait, home=home)


def read_again(source: Source) -> tuple[Source, Sequence[Spec], Sequence[str]]:
    """The agent as its file has it now."""
    settings = {**source.settings, "spec": _spec(Path(str(source.settings["file"])))}
    return _with_card(source.model_copy(update={"settings": settings}))


def _spec(file: Path) -> dict[str, str]:
    from infra.cli.agents import agent_from

    spec: dict[str, str] = agent_from(file).model_dump(mode="json")
    return spec


def _with_card(source: Source) -> tuple[Source, Sequence[Spec], Sequence[str]]:
    from services.tools.sources import Spec
    from tool_adapters.agent import AgentSource

    card = AgentSource(source.settings, _nobody, lane=source.lane).tool().card
    return source, [Spec(card=card, call={})], ["agent"]


def _nobody(tenant: str, user: str) -> Client:
    raise AssertionError("nothing is called while it is imported")
