"""Candidates that look at live traffic beside what serves, and where they differed."""

from __future__ import annotations

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None: ...
