"""`asyncapi`: the bus as a document, for people and for programs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from infra.cli.options import Json
from infra.cli.show import print_json, use_json


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(asyncapi)


def asyncapi(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/subjects.md instead.")] = False, json: Json = False
) -> None:
    """Print every subject and message of the bus as AsyncAPI 3.0 JSON, generated from the schemas."""
    from schemas.asyncapi import document
    from schemas.asyncapi import markdown as as_markdown

    use_json(json or not markdown)
    if markdown and not json:
        sys.stdout.write(as_markdown())
    else:
        print_json(document())
