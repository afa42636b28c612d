"""`milepost payloads`: the bytes that results refer to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client

payloads = typer.Typer(no_args_is_help=True, help="Images, files and other bytes that tools gave back.")


class NotWritten(MilepostError):
    """The bytes could not be put where they were wanted."""


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    payloads.command()(get)
    app.add_typer(payloads, name="payloads")


@payloads.callback()
def _group() -> None:
    """Images, files and other bytes that tools gave back."""


def get(
    ref: Annotated[str, typer.Argument(help="A reference, payload:..., as a result names it.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file to write.", show_default="to the pipe")
    ] = None,
    home: Home = None,
) -> None:
    """Fetch the bytes of a result."""
    from infra.cli.client import connected
    from infra.wiring import open_payloads

    if output is None and sys.stdout.isatty():
        raise NotWritten("Bytes do not belong on a terminal.", hint=f"milepost payloads get {ref} -o FILE")

    async def work(client: Client, world: World) -> bytes:
        return await open_payloads(world).get(ref, tenant=client.tenant)

    data = connected(work, home)
    if output is None:
        sys.stdout.buffer.write(data)
        return
    try:
        _write(output, data)
    except OSError as error:
        raise NotWritten(f"{output} cannot be written.", why=str(error)) from error
    typer.echo(f"{output}: {len(data):,} bytes", err=True)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
