"""Which run used which tool, passage, document and model."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STATEMENTS = """
CREATE TABLE run_uses (
    run text, kind text, id text COLLATE "C", how text, hash text COLLATE "C", tenant text NOT NULL,
    name text COLLATE "C" NOT NULL, detail text NOT NULL, time timestamptz NOT NULL,
    PRIMARY KEY (run, kind, id, how, hash)
);
CREATE INDEX run_uses_id ON run_uses (tenant, id);
CREATE INDEX run_uses_name ON run_uses (tenant, name);
CREATE INDEX run_uses_hash ON run_uses (tenant, hash);
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
