"""`milepost tools import aliyun`: the APIs of Alibaba Cloud, of their published metadata."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.import_shown import says
from infra.cli.options import DryRun, Home, Json, Wait
from infra.cli.show import use_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.tools.sources import Source, Spec


class Language(StrEnum):
    """Whose texts the cards have."""

    ZH = "zh"
    EN = "en"
    BOTH = "both"


def add_to(imports: typer.Typer) -> None:
    """Add this file's command."""
    imports.command()(aliyun)


def aliyun(
    path: Annotated[
        str, typer.Argument(help="A checkout, a folder of archives, or an archive of aliyun-openapi-meta; or its address.")
    ] = "",
    product: Annotated[str, typer.Option(help="Only these, such as ecs,vpc,rds.", show_default="all")] = "",
    language: Annotated[Language, typer.Option(help="Whose titles and descriptions.")] = Language.BOTH,
    region: Annotated[str, typer.Option(help="Where no call says another.", show_default="the settings' cloud.region")] = "",
    endpoint: Annotated[list[str] | None, typer.Option(
        metavar="PRODUCT=HOST", help="In place of its own, such as ecs=127.0.0.1:8000; * for all.", show_default=False,
    )] = None,
    key: Annotated[str, typer.Option(
        metavar="REF,REF", help="Access key id and secret (and token) by reference, such as env:ID,env:SECRET.",
        show_default="the vendor's chain: environment, profile, role",
    )] = "",
    dry_run: DryRun = False, wait: Wait = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Import the APIs of Alibaba Cloud (about 16,000), as <product>_<Api>, and call them from then on."""
    from infra.cli.options import settings_from
    from infra.cli.tools_import import new_source, run_import
    from tool_adapters.aliyun import metadata

    use_json(json)
    settings: dict[str, object] = {
        "path": _address(path), "only": [each.strip().lower() for each in product.split(",") if each.strip()],
        "language": language.value, "region": region or settings_from(home).settings.cloud.region,
        "endpoints": pairs(endpoint, "--endpoint ecs=127.0.0.1:8000"), **key_of(key),
    }  # fmt: skip
    source = new_source("aliyun", metadata.LANE, settings, "Alibaba Cloud", home)
    source, specs, groups = read_again(source)
    run_import(source, specs, groups, dry_run=dry_run, wait=wait, home=home)


def read_again(source: Source) -> tuple[Source, Sequence[Spec], Sequence[str]]:
    """The tools that the metadata describes, and their products."""
    from infra.cli.sources import at_hand
    from services.tools.sources import Spec
    from tool_adapters.aliyun import metadata

    said = source.settings
    only, language = said["only"], said["language"]
    assert isinstance(only, list) and language in ("zh", "en", "both")
    with at_hand(str(said["path"]) or metadata.SOURCE) as place, says("reading the metadata"):
        files = metadata.read(place, only, language)
        specs = [Spec(card=card, call=call) for card, call in metadata.specs(files, language)]
        source = source.model_copy(update={"settings": {**said, "products": metadata.products(files, language)}})
    return source, specs, [spec.card.name.partition("_")[0] for spec in specs]


def key_of(given: str) -> dict[str, object]:
    """An access key by reference, as the adapters' settings name its parts. Raises MilepostError."""
    from schemas.errors import MilepostError

    parts = [each.strip() for each in given.split(",") if each.strip()]
    if not parts:
        return {}
    if len(parts) not in (2, 3) or not all(each.startswith(("env:", "file:")) for each in parts):
        raise MilepostError(
            "An access key is given by reference: its id, its secret, and a token where there is one.",
            why="a secret is never kept with what was imported", hint="--key env:ACCESS_KEY_ID,env:ACCESS_KEY_SECRET",
        )  # fmt: skip
    return dict(zip(("access_key_id", "access_key_secret", "security_token"), parts, strict=False))


def pairs(given: Sequence[str] | None, example: str) -> dict[str, str]:
    """NAME=VALUE pairs. Raises MilepostError."""
    from schemas.errors import MilepostError

    found: dict[str, str] = {}
    for each in given or ():
        name, _, value = each.partition("=")
        if not name or not value:
            raise MilepostError(f"{each} is no name and value.", why="there is no = between them", hint=example)
        found[name.strip().lower()] = value.strip()
    return found


def _address(path: str) -> str:
    """What is named, so that it is found again from any folder."""
    from pathlib import Path

    return path if not path or path.startswith(("http://", "https://")) else str(Path(path).expanduser().resolve())
