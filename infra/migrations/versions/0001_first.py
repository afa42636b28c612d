"""Tool cards, knowledge, conversations, the index of the log, the effect ledger."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_EXTENSIONS = ("vector", "pg_trgm")

_TABLES = """
CREATE TABLE tool_cards (
    tenant text, name text, card json NOT NULL, hash text NOT NULL, words tsvector NOT NULL,
    embedder text, vector vector(384), updated timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name)
);
CREATE INDEX tool_cards_words ON tool_cards USING gin (words);
CREATE INDEX tool_cards_name ON tool_cards USING gin (name gin_trgm_ops);
CREATE INDEX tool_cards_vector ON tool_cards USING hnsw (vector vector_cosine_ops);

CREATE TABLE documents (
    id text PRIMARY KEY, tenant text NOT NULL, collection text NOT NULL, source text NOT NULL,
    title text NOT NULL, chunks integer NOT NULL, added timestamptz NOT NULL,
    CONSTRAINT documents_place UNIQUE (tenant, collection, source)
);
CREATE TABLE passages (
    document text REFERENCES documents (id) ON DELETE CASCADE, hash text,
    tenant text NOT NULL, collection text NOT NULL, heading text NOT NULL, text text NOT NULL,
    begins integer NOT NULL, ends integer NOT NULL,
    words tsvector NOT NULL, embedder text NOT NULL, vector vector(384) NOT NULL,
    PRIMARY KEY (document, hash)
);
CREATE INDEX passages_collection ON passages (tenant, collection);
CREATE INDEX passages_words ON passages USING gin (words);
CREATE INDEX passages_text ON passages USING gin (text gin_trgm_ops);
CREATE INDEX passages_vector ON passages USING hnsw (vector vector_cosine_ops);

CREATE TABLE conversations (
    tenant text, conversation text, open_run text, open_deadline timestamptz, clock bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, conversation)
);
CREATE TABLE turns (
    tenant text, run text, conversation text NOT NULL, "user" text NOT NULL,
    state text NOT NULL CONSTRAINT turns_state CHECK (state IN ('open', 'waiting', 'refused', 'ended')),
    arrived bigint NOT NULL, began bigint, ended bigint, deadline timestamptz,
    behind text, interrupts boolean NOT NULL DEFAULT false,
    task text, answer text, outcome text, released text, since timestamptz NOT NULL,
    PRIMARY KEY (tenant, run)
);
CREATE INDEX turns_history ON turns (tenant, conversation, ended);

CREATE TABLE events (
    id text PRIMARY KEY, run text NOT NULL, tenant text NOT NULL, type text NOT NULL, role text NOT NULL,
    slot text NOT NULL, time timestamptz NOT NULL, stream text NOT NULL, seq bigint NOT NULL,
    summary text NOT NULL, bytes integer NOT NULL
);
CREATE INDEX events_run ON events (run, seq);
CREATE TABLE runs (
    run text PRIMARY KEY, tenant text NOT NULL, status text NOT NULL, agent text NOT NULL, "user" text NOT NULL,
    conversation text NOT NULL, task text NOT NULL, answer text, started timestamptz NOT NULL, ended timestamptz,
    steps integer NOT NULL, tools text[] NOT NULL, seq bigint NOT NULL
);
CREATE INDEX runs_started ON runs (tenant, started);
CREATE INDEX runs_task ON runs USING gin (task gin_trgm_ops);
CREATE TABLE watermarks (stream text PRIMARY KEY, seq bigint NOT NULL, created timestamptz);

CREATE TABLE effects (
    key text PRIMARY KEY, tenant text NOT NULL, run text NOT NULL, command text NOT NULL, tool text NOT NULL,
    arguments json NOT NULL, planned_state text NOT NULL,
    state text NOT NULL CONSTRAINT effects_state CHECK (state IN ('committed', 'done', 'failed', 'in_doubt')),
    receipt json, error json, since timestamptz NOT NULL
);
CREATE INDEX effects_run ON effects (run);
"""


def upgrade() -> None:
    for extension in _EXTENSIONS:
        op.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
