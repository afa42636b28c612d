"""The command line: thin; what it shows comes from the parts below it. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `milepost`; errors are shown as what, why and next, and exit 1."""
    from infra.cli.app import app
    from schemas.errors import MilepostError, first_error

    try:
        app()
    except* MilepostError as group:
        from infra.cli.show import show_error

        show_error(first_error(group))
        sys.exit(1)
    except* KeyboardInterrupt:
        sys.exit(130)
