"""Rounds of effects, leases of their claims, and what a person needs to settle one."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_COLUMNS = (
    "base text",
    "round integer NOT NULL DEFAULT 0",
    "conversation text NOT NULL DEFAULT ''",
    "\"user\" text NOT NULL DEFAULT ''",
    "approval text",
    "datakey text",
    "lane text NOT NULL DEFAULT 'builtin'",
    "price text",
    "currency text",
    "attempts integer NOT NULL DEFAULT 1",
    "token text NOT NULL DEFAULT ''",
    "lease timestamptz NOT NULL DEFAULT now()",
    "first_sent timestamptz",
    "last_sent timestamptz",
    "finished timestamptz",
    "look timestamptz",
    "looks integer NOT NULL DEFAULT 0",
    "settled_by text",
    "note text NOT NULL DEFAULT ''",
    "told boolean NOT NULL DEFAULT true",
    "undone_by text",
)


def upgrade() -> None:
    op.execute("ALTER TABLE effects " + ", ".join(f"ADD COLUMN {column}" for column in _COLUMNS))
    op.execute("ALTER TABLE effects NO FORCE ROW LEVEL SECURITY")  # its owner is to see the rows of all tenants here
    # Entries of before: each may have been sent when it was claimed, and what is open is looked after.
    op.execute("UPDATE effects SET base = key, first_sent = since, last_sent = since")
    op.execute("UPDATE effects SET look = now() WHERE state IN ('committed', 'in_doubt')")
    op.execute("UPDATE effects SET finished = since WHERE state IN ('done', 'failed')")
    op.execute("ALTER TABLE effects FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE effects ALTER COLUMN base SET NOT NULL")
    op.execute("CREATE INDEX effects_base ON effects (base, round)")
    op.execute("CREATE INDEX effects_since ON effects (tenant, since, key)")
    op.execute("CREATE INDEX effects_look ON effects (lane, look) WHERE look IS NOT NULL")
