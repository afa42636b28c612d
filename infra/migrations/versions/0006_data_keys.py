"""The keys that personal content is sealed with, and who was forgotten when."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STATEMENTS = """
CREATE TABLE data_keys (
    id text PRIMARY KEY, tenant text NOT NULL, "user" text, wrapped bytea,
    made timestamptz NOT NULL DEFAULT now(), destroyed timestamptz,
    CONSTRAINT data_keys_destroyed CHECK ((wrapped IS NULL) = (destroyed IS NOT NULL) AND (wrapped IS NULL) = ("user" IS NULL))
);
CREATE UNIQUE INDEX data_keys_user ON data_keys (tenant, "user");
CREATE TABLE forgettings (
    id text PRIMARY KEY, tenant text NOT NULL, "user" text, subject text NOT NULL, asked_by text NOT NULL,
    asked timestamptz NOT NULL, finished timestamptz, report json NOT NULL,
    CONSTRAINT forgettings_finished CHECK (("user" IS NULL) = (finished IS NOT NULL))
);
CREATE UNIQUE INDEX forgettings_user ON forgettings (tenant, "user");
ALTER TABLE runs ADD COLUMN sealed boolean NOT NULL DEFAULT false;
ALTER TABLE runs ADD COLUMN erased boolean NOT NULL DEFAULT false;
CREATE INDEX runs_user ON runs (tenant, "user", run);
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
