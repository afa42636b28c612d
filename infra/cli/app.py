"""`milepost`: the commands by name, and what each needs to be told."""

from __future__ import annotations

import inspect
import re
from typing import Annotated

import typer

from infra.cli import (
    agents_kept,
    approvals,
    archive,
    ask,
    asyncapi,
    certify,
    cohort,
    dataset,
    demo,
    diff,
    doctor,
    door,
    effects,
    env,
    evaluating,
    forget,
    fork,
    impact,
    keys,
    knowledge,
    mcp,
    memory,
    models,
    payloads,
    policy,
    receipts,
    replay,
    runs,
    shadow,
    stack,
    tools,
    train,
    triggers,
    verify,
)

_WRAPPED = re.compile(r"(?<=\S)\n(?=[^\s-])")


def unwrap(group: typer.Typer) -> None:
    """Let the terminal break the lines of help: those of a docstring end where the source does."""
    for command in group.registered_commands:
        if command.callback and (told := command.help or inspect.getdoc(command.callback)):
            command.help = _WRAPPED.sub(" ", told)
    for each in group.registered_groups:
        if each.typer_instance:
            unwrap(each.typer_instance)


app = typer.Typer(
    name="milepost", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False,
    help="Agents as services on a message bus: every step an event that can be audited, resumed and replayed.",
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"milepost {version('milepost')}")
        except PackageNotFoundError:
            typer.echo("milepost (a checkout that is not installed)")
        raise typer.Exit


@app.callback()
def milepost(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Every command takes --help; most take --json."""


for part in (
    stack, demo, ask, agents_kept, runs, replay, verify, fork, diff, cohort, certify, shadow, dataset, train, evaluating,
    receipts, archive, approvals, effects, tools, policy, knowledge, memory, forget, impact, payloads, mcp, models, keys, door,
    triggers, doctor, env, asyncapi,
):  # fmt: skip
    part.add_to(app)
unwrap(app)
