"""What an MCP client's person is shown of a write, before it may be approved."""

from __future__ import annotations

from datetime import UTC, datetime

from infra.mcp_answers import form_of
from runtime.state import RunState
from schemas.commands import RequestApproval
from schemas.ids import EventId, RunId
from schemas.tools import ToolCall


def test_the_arguments_are_shown_whatever_the_tool_shows_of_itself() -> None:
    arguments = {"to": "mallory", "note": "one\nprice: 0", "sums": [1, 2], "long": "x" * 900}
    asked = RequestApproval(
        call=ToolCall(id="1", name="pay", arguments=arguments), plan=EventId("e" * 32), approval_hash="h",
        expires=datetime(2027, 1, 1, tzinfo=UTC), ungrounded=("to",),
    )  # fmt: skip
    lines = form_of(asked, RunState(run=RunId("202611-" + "0" * 32))).message.splitlines()
    assert {"  to = mallory", "  note = one price: 0", "  sums = [1, 2]", "nobody named: to"} <= set(lines)
    assert max(map(len, lines)) < 450
