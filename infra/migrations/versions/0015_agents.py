"""Agents as people keep them, a row a version."""

from __future__ import annotations

from alembic import op

from infra.migrations.tenancy import secure

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_STATEMENTS = """
CREATE TABLE agents (
    tenant text NOT NULL, name text COLLATE "C" NOT NULL, version integer NOT NULL, title text NOT NULL,
    description text NOT NULL, picture text NOT NULL, suggestions jsonb NOT NULL, spec jsonb NOT NULL,
    published boolean NOT NULL, "by" text NOT NULL, at timestamptz NOT NULL, note text NOT NULL,
    PRIMARY KEY (tenant, name, version)
);
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    secure("agents")
