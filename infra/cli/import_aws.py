"""`milepost tools import aws`: the operations of AWS services, of the models that boto3 brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.import_aliyun import key_of
from infra.cli.import_shown import says
from infra.cli.options import DryRun, Home, Json, Wait
from infra.cli.show import use_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.tools.sources import Source, Spec

LANE = "aws-api"


def add_to(imports: typer.Typer) -> None:
    """Add this file's command."""
    imports.command()(aws)


def aws(
    services: Annotated[str, typer.Option(help="Which, as boto3 calls them, such as ec2,s3,rds.")],
    region: Annotated[str, typer.Option(help="Where they are asked.", show_default="the settings' aws.region")] = "",
    endpoint: Annotated[str, typer.Option(
        help="In place of each service's own.", show_default="the settings' aws.endpoint",
    )] = "",
    key: Annotated[str, typer.Option(
        metavar="REF,REF", help="Access key id and secret (and token) by reference, such as env:ID,env:SECRET.",
        show_default="the settings' aws, or boto3's chain: environment, profile, role",
    )] = "",
    dry_run: DryRun = False, wait: Wait = False, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Import the operations of AWS services, as <service>_<Operation>, and call them from then on."""
    from infra.cli.options import settings_from
    from infra.cli.tools_import import new_source, run_import

    use_json(json)
    configured = settings_from(home).settings.aws
    settings: dict[str, object] = {
        "services": [each.strip().lower() for each in services.split(",") if each.strip()],
        "region": region or configured.region, "endpoint": endpoint or configured.endpoint, **key_of(key),
        "shipped": configured.is_wanted,
    }  # fmt: skip
    source = new_source("aws", LANE, settings, "AWS", home)
    source, specs, groups = read_again(source)
    run_import(source, specs, groups, dry_run=dry_run, wait=wait, home=home)


def read_again(source: Source) -> tuple[Source, Sequence[Spec], Sequence[str]]:
    """The operations that the installed boto3 knows, without those that the stack offers as tools of its own."""
    from services.tools.sources import Spec
    from tool_adapters.aws import cards
    from tool_adapters.aws.apis import APIS

    services = source.settings["services"]
    assert isinstance(services, list)
    shipped = frozenset(api.name for api in APIS) if source.settings.get("shipped", True) else frozenset[str]()
    with says("reading the models"):
        specs = [Spec(card=card, call=call) for card, call in cards.specs([str(each) for each in services], shipped)]
    return source, specs, [spec.card.name.partition("_")[0] for spec in specs]
