"""The command line: thin; what it shows comes from the parts below it. Heavy imports wait until a command runs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer import TyperException

    from schemas.errors import MilepostError


def main() -> None:
    """Run `milepost`. An error is shown as what, why and next: exit 1, or 2 when the command itself was mistyped."""
    from infra import garbage

    garbage.seldom()
    import typer

    from infra.cli.app import app
    from schemas.errors import MilepostError, Mistyped, first_error

    try:
        code = app(prog_name="milepost", standalone_mode=False)
    except* MilepostError as group:
        error = first_error(group)
        _fail(error, 2 if isinstance(error, Mistyped) else 1)
    except* typer.TyperException as group:
        _fail_mistyped(group)
    except* (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except* BrokenPipeError:  # `milepost ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(error: MilepostError, code: int) -> None:
    from infra.cli.show import show_error, use_json

    use_json("--json" in sys.argv)
    show_error(error)
    sys.exit(code)


def _fail_mistyped(group: BaseExceptionGroup[TyperException]) -> None:
    from schemas.errors import MilepostError

    error = group.exceptions[0]
    if not isinstance(error, Exception) or isinstance(error, BaseExceptionGroup):
        raise group
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.exit(2)  # the help has been printed
    hint = f"{context.command_path} --help" if context else "milepost --help"
    _fail(MilepostError(error.format_message().replace("Value error, ", ""), hint=hint), error.exit_code)
