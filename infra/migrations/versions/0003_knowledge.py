"""Knowledge: collections with versions, documents in editions, passages with their words' weights.

Documents that were added before are to be added again: what their words weigh was not kept.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_STATEMENTS = """
CREATE EXTENSION IF NOT EXISTS btree_gin;
DROP TABLE passages;
DROP TABLE documents;

CREATE TABLE collections (
    tenant text, collection text, version bigint NOT NULL DEFAULT 0, passages bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, collection)
);
CREATE TABLE lexicon (
    tenant text, collection text, word text COLLATE "C", held bigint NOT NULL,
    PRIMARY KEY (tenant, collection, word)
);
CREATE TABLE documents (
    id text PRIMARY KEY, tenant text NOT NULL, collection text NOT NULL, source text NOT NULL,
    CONSTRAINT documents_place UNIQUE (tenant, collection, source)
);
CREATE TABLE editions (
    document text REFERENCES documents (id) ON DELETE CASCADE, since bigint, until bigint NOT NULL,
    tenant text NOT NULL, collection text NOT NULL, title text NOT NULL, chunks integer NOT NULL,
    added timestamptz NOT NULL, metadata jsonb NOT NULL, digest text NOT NULL,
    PRIMARY KEY (document, since)
);
CREATE INDEX editions_collection ON editions (tenant, collection);
CREATE TABLE pieces (
    document text, since bigint, place integer, tenant text NOT NULL, hash text NOT NULL,
    begins integer NOT NULL, ends integer NOT NULL, page integer,
    PRIMARY KEY (document, since, place),
    FOREIGN KEY (document, since) REFERENCES editions (document, since) ON DELETE CASCADE
);
CREATE INDEX pieces_hash ON pieces (document, hash);
CREATE TABLE passages (
    document text REFERENCES documents (id) ON DELETE CASCADE, hash text,
    tenant text NOT NULL, collection text NOT NULL, held int8multirange NOT NULL,
    heading text NOT NULL, text text NOT NULL, words tsvector NOT NULL, weights sparsevec(1000000000) NOT NULL,
    embedder text NOT NULL, vector vector(384) NOT NULL,
    PRIMARY KEY (document, hash)
);
ALTER TABLE passages SET (toast_tuple_target = 4064);
ALTER TABLE passages ALTER COLUMN vector SET STORAGE PLAIN, ALTER COLUMN words SET STORAGE MAIN,
    ALTER COLUMN weights SET STORAGE MAIN;
CREATE INDEX passages_collection ON passages (tenant, collection);
CREATE INDEX passages_words ON passages USING gin (tenant, collection, words) WITH (fastupdate = off);
CREATE INDEX passages_vector ON passages USING hnsw (vector vector_cosine_ops);

CREATE TABLE uploads (
    tenant text, upload text, number integer, data bytea NOT NULL, added timestamptz NOT NULL,
    PRIMARY KEY (tenant, upload, number)
);
"""

# Under row level security only leakproof functions may look into an index before the policy has been asked. Matching words
# tells nothing of a row beside whether it matches, but only a superuser may vouch for that; else searches read more rows.
_LEAKPROOF = """
DO $$
BEGIN
    ALTER FUNCTION ts_match_vq(tsvector, tsquery) LEAKPROOF;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END $$
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute(_LEAKPROOF)
