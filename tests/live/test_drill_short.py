"""The kill drill in short: eight kills, the supervisor's last (`make drill-kill` has fifty)."""

from __future__ import annotations

from pathlib import Path

from tests.drill.kill import drill


async def test_eight_kills_lose_nothing_and_double_nothing(home: Path) -> None:
    report = await drill(home, kills=8, seed=20261121)
    assert report["violations"] == []
    assert report["kills"] == 8
    assert report["effects"] == report["effects_wanted"] != 0
