"""The catalogue: versions of cards, what their words weigh, vectors by the text they stand for, heartbeats of hosts.

Cards from before come again when their hosts start. What an index has not sorted in yet (its pending list) is read by every
search, so it is kept short.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STATEMENTS = """
DROP TABLE tool_cards;
CREATE SEQUENCE tool_revision;

CREATE TABLE tool_catalogues (tenant text PRIMARY KEY, revision bigint NOT NULL, cards integer NOT NULL);
CREATE TABLE tool_versions (
    tenant text, name text COLLATE "C", since bigint, until bigint, card json NOT NULL,
    PRIMARY KEY (tenant, name, since)
);
CREATE TABLE tool_cards (
    tenant text, name text COLLATE "C", since bigint NOT NULL, lane text NOT NULL, hash text NOT NULL,
    digest text NOT NULL, embedder text NOT NULL DEFAULT '',
    words tsvector NOT NULL, weights sparsevec(1000000000) NOT NULL,
    PRIMARY KEY (tenant, name)
);
ALTER TABLE tool_cards ALTER COLUMN words SET STORAGE EXTERNAL, ALTER COLUMN weights SET STORAGE MAIN;
CREATE INDEX tool_cards_words ON tool_cards USING gin (words) WITH (gin_pending_list_limit = 512);
CREATE INDEX tool_cards_name ON tool_cards USING gin (name gin_trgm_ops) WITH (gin_pending_list_limit = 512);
CREATE INDEX tool_cards_digest ON tool_cards (digest);
CREATE INDEX tool_cards_embedder ON tool_cards (embedder, since, tenant);
CREATE INDEX tool_cards_lane ON tool_cards (lane);
CREATE TABLE tool_words (
    tenant text, word text COLLATE "C", cards integer NOT NULL,
    PRIMARY KEY (tenant, word)
) WITH (fillfactor = 70);
CREATE TABLE tool_vectors (
    embedder text, digest text, vector halfvec(384) NOT NULL,
    PRIMARY KEY (embedder, digest)
);
CREATE INDEX tool_vectors_vector ON tool_vectors USING hnsw (vector halfvec_ip_ops);

CREATE TABLE tool_hosts (
    lane text PRIMARY KEY, seen timestamptz NOT NULL, queue integer NOT NULL, failing float8 NOT NULL
);
"""

# Row level security lets a condition use an index before the policy only if its function cannot tell what it read. These
# neither fail nor print by what they read; only a superuser may say so, and without it all that a tenant sees is read.
_LEAKPROOF = """
DO $$
BEGIN
    ALTER FUNCTION ts_match_vq(tsvector, tsquery) LEAKPROOF;
    ALTER FUNCTION similarity_op(text, text) LEAKPROOF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'search by words reads every card that a tenant sees: this role may not mark functions leakproof';
END $$
"""


def upgrade() -> None:
    op.execute(_LEAKPROOF)
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
