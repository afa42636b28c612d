"""What begins runs by itself."""

from __future__ import annotations

from alembic import op

from infra.migrations.tenancy import secure

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_STATEMENTS = """
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    secure()
