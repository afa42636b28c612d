"""Where imported tools come from, and how each is called."""

from __future__ import annotations

from alembic import op

from infra.migrations.tenancy import secure

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


_STATEMENTS = """
CREATE TABLE tool_sources (
    tenant text, lane text, kind text NOT NULL, settings json NOT NULL, title text NOT NULL, owner text NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (tenant, lane)
);
CREATE TABLE tool_specs (
    tenant text, lane text, name text COLLATE "C", card json NOT NULL, call json NOT NULL, digest text NOT NULL,
    PRIMARY KEY (tenant, lane, name)
);
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    secure("tool_sources", "tool_specs")
