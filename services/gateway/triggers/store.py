"""Where triggers are kept. The port."""

from __future__ import annotations

from typing import Protocol


class TriggerStore(Protocol):
    """Triggers of tenants."""
