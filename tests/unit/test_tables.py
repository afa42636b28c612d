"""Tables in a terminal: what has no room goes, what is wide is counted as it is shown."""

from __future__ import annotations

import pytest
from rich.console import Console

from infra.cli import show
from infra.cli.app import unwrap


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A terminal of 40 columns, whose output is recorded."""
    out = Console(force_terminal=True, width=40, record=True, color_system=None)
    monkeypatch.setattr(show, "console", lambda: out)
    return out


def test_a_chinese_heading_is_never_cut_where_there_is_room(terminal: Console) -> None:
    show.print_table(("归档大小", "校验日期"), [("1 KB", "")])
    assert "归档大小" in terminal.export_text()


def test_spare_columns_go_one_after_the_other(terminal: Console) -> None:
    row = ("202611-24207a2c", "assistant", "721", "renew the instance of the shop")
    show.print_table(("run", "agent", "tokens", "task"), [row], right=("tokens",), spare=("agent", "tokens"))
    shown = terminal.export_text()
    assert "agent" not in shown and "tokens" not in shown
    assert "renew the instance of …" in shown


def test_help_is_broken_by_the_terminal_alone() -> None:
    import typer

    app = typer.Typer()

    @app.command()
    def run() -> None:
        """Do it.

        One line of
        the source, and
        - a list
        """

    unwrap(app)
    assert app.registered_commands[0].help == "Do it.\n\nOne line of the source, and\n- a list"
