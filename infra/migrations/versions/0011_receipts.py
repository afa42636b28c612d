"""What proves runs: receipts in each tenant's chain, runs that are to be sealed, and checkpoints."""

from __future__ import annotations

from alembic import op

from infra.migrations.tenancy import secure

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_STATEMENTS = """
CREATE TABLE receipts (
    tenant text, number bigint, run text NOT NULL, part integer NOT NULL, hash text NOT NULL, sealed json NOT NULL,
    published boolean NOT NULL,
    PRIMARY KEY (tenant, number),
    CONSTRAINT receipts_part UNIQUE (tenant, run, part)
);
CREATE INDEX receipts_unpublished ON receipts (tenant, number) WHERE NOT published;

CREATE TABLE receipts_due (
    tenant text, run text, position bigint NOT NULL, at timestamptz NOT NULL,
    PRIMARY KEY (tenant, run)
);
CREATE INDEX receipts_due_at ON receipts_due (at);

CREATE TABLE checkpoints (
    tenant text, number bigint, at timestamptz, checkpoint json NOT NULL,
    PRIMARY KEY (tenant, number, at)
);
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    secure("receipts", "receipts_due", "checkpoints")
