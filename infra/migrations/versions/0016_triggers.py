"""What begins runs by itself, what came of it, and chats of messengers that wait for answers."""

from __future__ import annotations

from alembic import op

from infra.migrations.tenancy import secure

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_STATEMENTS = """
CREATE TABLE triggers (
    tenant text NOT NULL, name text COLLATE "C" NOT NULL, version integer NOT NULL, "by" text NOT NULL,
    at timestamptz NOT NULL, trigger jsonb NOT NULL, enabled boolean NOT NULL, kind text NOT NULL, scheduled timestamptz,
    PRIMARY KEY (tenant, name)
);
CREATE TABLE trigger_firings (
    tenant text NOT NULL, trigger text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, at timestamptz NOT NULL,
    outcome text NOT NULL, run text, why text NOT NULL, ended boolean NOT NULL,
    PRIMARY KEY (tenant, trigger, key),
    FOREIGN KEY (tenant, trigger) REFERENCES triggers (tenant, name) ON DELETE CASCADE,
    CONSTRAINT trigger_firings_outcome CHECK (outcome IN ('pending', 'begun', 'skipped', 'failed'))
);
CREATE INDEX trigger_firings_at ON trigger_firings (tenant, trigger, at);
CREATE TABLE channels (
    tenant text NOT NULL, name text COLLATE "C" NOT NULL, version integer NOT NULL, "by" text NOT NULL,
    at timestamptz NOT NULL, channel jsonb NOT NULL,
    PRIMARY KEY (tenant, name)
);
CREATE TABLE channel_replies (
    tenant text NOT NULL, channel text COLLATE "C" NOT NULL, run text COLLATE "C" NOT NULL, chat text COLLATE "C" NOT NULL,
    "user" text NOT NULL, target jsonb NOT NULL, at timestamptz NOT NULL, until timestamptz NOT NULL, leased timestamptz,
    told jsonb NOT NULL,
    PRIMARY KEY (tenant, channel, run),
    FOREIGN KEY (tenant, channel) REFERENCES channels (tenant, name) ON DELETE CASCADE
);
CREATE TABLE channel_seen (
    tenant text NOT NULL, channel text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, at timestamptz NOT NULL,
    PRIMARY KEY (tenant, channel, id),
    FOREIGN KEY (tenant, channel) REFERENCES channels (tenant, name) ON DELETE CASCADE
);
CREATE INDEX channel_seen_at ON channel_seen (tenant, channel, at);
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    secure("triggers", "trigger_firings", "channels", "channel_replies", "channel_seen")
