"""`milepost tools import openapi`: the operations of an API as tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.import_shown import says
from infra.cli.options import DryRun, Home, Json, Wait
from infra.cli.show import use_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from services.tools.sources import Source, Spec
    from tool_adapters.openapi.call import Override, Settings
    from tool_adapters.openapi.document import Document


def add_to(imports: typer.Typer) -> None:
    """Add this file's command."""
    imports.command()(openapi)


def openapi(
    source: Annotated[str, typer.Argument(metavar="PATH|URL", help="An OpenAPI 3.x or Swagger 2.0 document, JSON or YAML.")],
    lane: Annotated[str, typer.Option(help="The host that will answer them.", show_default="the API's title")] = "",
    prefix: Annotated[str, typer.Option(help="What every name shall begin with.", show_default=False)] = "",
    server: Annotated[str, typer.Option(help="Where the API stands, if not where the document says.", show_default=False)] = "",
    variable: Annotated[list[str] | None, typer.Option(
        metavar="NAME=VALUE", help="Of the document's servers.", show_default=False,
    )] = None,
    auth: Annotated[list[str] | None, typer.Option(
        metavar="SCHEME=REF", help="A secret by reference, such as bearer=env:GITHUB_TOKEN or ApiKey=file:/run/secrets/key.",
        show_default=False,
    )] = None,
    allow: Annotated[list[str] | None, typer.Option(
        metavar="HOST:PORT", help="May be asked though it is not public.", show_default=False,
    )] = None,
    effects: Annotated[str, typer.Option(
        metavar="FILE", help="What operations do, by operationId: YAML or JSON.", show_default=False,
    )] = "",
    dry_run: DryRun = False, wait: Wait = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Import the operations of an OpenAPI document, each by its operationId, and call them from then on."""
    from infra.cli.tools_import import new_source, run_import
    from tool_adapters.openapi.call import Settings
    from tool_adapters.openapi.cards import lane_of

    use_json(json)
    document = _document(source)
    settings = Settings(
        document=_address(source), server="", auth=_pairs(auth, "--auth SCHEME=env:VARIABLE"), allow=tuple(allow or ()),
        given_server=server, variables=_pairs(variable, "--variable NAME=VALUE"), prefix=prefix, effects=_effects(effects),
    )  # fmt: skip
    made = new_source("openapi", lane or lane_of(document), settings.model_dump(mode="json"), document.title, home)
    made, specs, groups = tools_of(made, document, settings)
    run_import(made, specs, groups, dry_run=dry_run, wait=wait, home=home)


def read_again(source: Source) -> tuple[Source, Sequence[Spec], Sequence[str]]:
    """What the document says now."""
    from tool_adapters.openapi.call import Settings

    settings = Settings.model_validate(source.settings)
    return tools_of(source, _document(settings.document), settings)


def tools_of(source: Source, document: Document, settings: Settings) -> tuple[Source, Sequence[Spec], Sequence[str]]:
    """The source with all that its calls need, and its tools. Raises InvalidDocument, UnknownScheme, InvalidTool."""
    from services.tools.sources import Spec
    from tool_adapters.openapi import servers
    from tool_adapters.openapi.cards import tools
    from tool_adapters.openapi.security import checked_auth, schemes_of

    schemes = schemes_of(document)
    address = servers.server(
        document, given=settings.given_server, variables=settings.variables, origin=settings.document
    )  # fmt: skip
    whole = settings.model_copy(update={"server": address, "schemes": schemes, "auth": checked_auth(settings.auth, schemes)})
    made = list(
        tools(
            document, lane=source.lane, prefix=settings.prefix, effects=overrides_of(settings.effects),
            server="" if settings.given_server else address, variables=settings.variables,
        )
    )  # fmt: skip
    source = source.model_copy(update={"settings": whole.model_dump(mode="json"), "title": document.title})
    return source, [Spec(card=each.card, call=each.call) for each in made], [each.group for each in made]


def _document(source: str) -> Document:
    from infra.cli.sources import SourceUnreadable, at_hand
    from tool_adapters.openapi import document

    with at_hand(source) as place, says("reading the document"):
        try:
            raw = place.read_bytes()
        except OSError as error:
            raise SourceUnreadable(f"{source} cannot be read.", why=str(error), hint="give a file") from error
        return document.read(raw)


def _address(source: str) -> str:
    """What is named, so that it is found again from any folder."""
    from pathlib import Path

    return source if source.startswith(("http://", "https://")) else str(Path(source).expanduser().resolve())


def _pairs(given: Sequence[str] | None, example: str) -> dict[str, str]:
    """NAME=VALUE pairs. Raises MilepostError."""
    from schemas.errors import MilepostError

    pairs: dict[str, str] = {}
    for each in given or ():
        name, found, value = each.partition("=")
        if not found or not name or not value:
            raise MilepostError("This option wants a name and a value.", why="there is no = between them", hint=example)
        pairs[name] = value
    return pairs


def _effects(file: str) -> dict[str, object]:
    """What an operator says of operations, as it stands in the file. Raises MilepostError."""
    import yaml

    from schemas.errors import MilepostError

    if not file:
        return {}
    try:
        said = yaml.safe_load(_file(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise MilepostError(
            f"{file} cannot be read.", why=" ".join(str(error).split())[:300], hint="give a YAML or JSON file"
        ) from error
    if not isinstance(said, dict):
        raise MilepostError(f"{file} names no operations.", why="it is no mapping", hint="operationId: {effect: read}")
    made = {str(name): {"effect": each} if isinstance(each, str) else each for name, each in said.items()}
    overrides_of(made)
    return made


def overrides_of(said: Mapping[str, object]) -> dict[str, Override]:
    from pydantic import ValidationError

    from schemas.errors import MilepostError
    from tool_adapters.openapi.call import Override

    made: dict[str, Override] = {}
    for name, each in said.items():
        try:
            made[name] = Override.model_validate(each)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".strip(": ")
            raise MilepostError(
                f"What is said of {name} cannot be read.", why=why, hint="operationId: {effect: read}"
            ) from error
    return made


def _file(name: str) -> Path:
    from pathlib import Path

    return Path(name).expanduser()
