"""What `milepost up` would run, without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local_stack import plan
from infra.settings import load
from infra.supervisor import secrets_of


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILEPOST_CLOUD_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("MILEPOST_CLOUD_ACCESS_KEY_SECRET", "a-secret")
    monkeypatch.setenv("MILEPOST_CLOUD_DEMO", "false")


@pytest.mark.usefixtures("keys")
def test_only_the_tools_service_gets_the_keys_of_the_cloud(tmp_path: Path) -> None:
    planned = plan(load({"home": str(tmp_path)}, directory=tmp_path))

    assert not [name for name, value in planned.environment.items() if value in ("an-id", "a-secret")]
    assert secrets_of(planned, "tools")["MILEPOST_CLOUD_ACCESS_KEY_SECRET"] == "a-secret"
    for service in planned.services.keys() - {"tools"}:
        assert set(secrets_of(planned, service).values()) == {""}


def test_the_demo_cloud_is_a_service_unless_a_real_one_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cloud" in plan(load({"home": str(tmp_path)}, directory=tmp_path)).services
    monkeypatch.setenv("MILEPOST_CLOUD_DEMO", "false")
    assert "cloud" not in plan(load({"home": str(tmp_path)}, directory=tmp_path)).services
