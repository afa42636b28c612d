"""What runs cost, what they belong to, and what they are found by.

Rows that are there already get their new columns from the log: `milepost runs rebuild`.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_STATEMENTS = """
ALTER TABLE runs
    ADD COLUMN events integer NOT NULL DEFAULT 0,
    ADD COLUMN models text[] NOT NULL DEFAULT '{}',
    ADD COLUMN tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN cached bigint NOT NULL DEFAULT 0,
    ADD COLUMN writes integer NOT NULL DEFAULT 0,
    ADD COLUMN money jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN cost double precision NOT NULL DEFAULT 0,
    ADD COLUMN parent text,
    ADD COLUMN fork_of text,
    ADD COLUMN receipt bigint;
DROP INDEX runs_started;
CREATE INDEX runs_started ON runs (tenant, started, run);
CREATE INDEX runs_status ON runs (tenant, status, started, run);
CREATE INDEX runs_agent ON runs (tenant, agent, started, run);
CREATE INDEX runs_asker ON runs (tenant, "user", started, run);
CREATE INDEX runs_conversation ON runs (tenant, conversation, started, run);
CREATE INDEX runs_forks ON runs (tenant, fork_of, started, run) WHERE fork_of IS NOT NULL;
CREATE INDEX runs_tokens ON runs (tenant, tokens);
CREATE INDEX runs_cost ON runs (tenant, cost) WHERE cost > 0;
CREATE INDEX runs_tools ON runs USING gin (tools);
CREATE INDEX runs_models ON runs USING gin (models);
CREATE INDEX runs_answer ON runs USING gin (answer gin_trgm_ops);
CREATE INDEX events_line ON events USING gin (summary gin_trgm_ops);
GRANT TRUNCATE ON events, run_uses TO milepost_keeper;
"""

# Under row level security the planner knows nothing of texts that ILIKE looks into unless it may not leak: it would take any
# text for a rare one. It raises nothing that depends on a row. Only a superuser may say so; without it, it is only slower.
_LEAKPROOF = """
DO $$
BEGIN
    ALTER FUNCTION texticlike(text, text) LEAKPROOF;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END $$
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute(_LEAKPROOF)
