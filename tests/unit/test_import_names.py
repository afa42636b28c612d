"""The folders are our import names; nobody else may install them."""

from __future__ import annotations

from importlib.metadata import packages_distributions

import pytest


@pytest.mark.parametrize("name", ["runtime", "services", "schemas", "tool_adapters", "infra"])
def test_the_import_name_is_ours_alone(name: str) -> None:
    assert set(packages_distributions().get(name, ["milepost"])) == {"milepost"}
