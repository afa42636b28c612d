"""Agents as people keep them, a row a version."""

from __future__ import annotations

from alembic import op

from infra.migrations.tenancy import secure

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_STATEMENTS = """
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    secure()
