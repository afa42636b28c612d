"""Candidates that look at live traffic beside what serves, and where they differed.

A comparison holds figures in the clear, and what it quotes of a run only under that run's own key.
"""

from __future__ import annotations

from alembic import op

from infra.migrations.tenancy import secure

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_STATEMENTS = """
CREATE TABLE shadows (
    tenant text NOT NULL, name text COLLATE "C" NOT NULL, swap jsonb NOT NULL, said text NOT NULL,
    share double precision NOT NULL, tokens_per_hour bigint, since timestamptz NOT NULL, state text NOT NULL,
    "by" text NOT NULL, created timestamptz NOT NULL, trouble text NOT NULL DEFAULT '',
    before jsonb, promoted timestamptz, note text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, name),
    CONSTRAINT shadows_state CHECK (state IN ('running', 'stopped', 'promoted', 'rolled back'))
);
CREATE TABLE shadow_differences (
    tenant text NOT NULL, shadow text COLLATE "C" NOT NULL, run text COLLATE "C" NOT NULL, event integer NOT NULL,
    risk text NOT NULL, why text NOT NULL, tokens integer NOT NULL, at timestamptz NOT NULL, result jsonb NOT NULL,
    PRIMARY KEY (tenant, shadow, run, event),
    FOREIGN KEY (tenant, shadow) REFERENCES shadows (tenant, name) ON DELETE CASCADE
);
CREATE INDEX shadow_differences_at ON shadow_differences (tenant, shadow, at);
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    secure("shadows", "shadow_differences")
