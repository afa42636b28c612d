"""API keys of the door: whose they are and what they may; of the key itself only a hash."""

from __future__ import annotations

from alembic import op

from infra.migrations.tenancy import secure

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_STATEMENTS = """
CREATE TABLE door_keys (
    tenant text NOT NULL, id text COLLATE "C" NOT NULL, name text NOT NULL, "user" text NOT NULL, roles jsonb NOT NULL,
    hash text NOT NULL, created timestamptz NOT NULL, expires timestamptz, revoked timestamptz,
    PRIMARY KEY (tenant, id)
);
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    secure("door_keys")
