"""What proves runs: receipts in each tenant's chain, and checkpoints of it."""

from __future__ import annotations

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None: ...
