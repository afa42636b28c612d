"""Memory: results, words and vectors of turns, what a turn was reminded of, summaries, facts about users."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATEMENTS = """
ALTER TABLE conversations ADD COLUMN last timestamptz;
CREATE INDEX conversations_last ON conversations (tenant, last);
UPDATE conversations AS c SET last = (
    SELECT max(t.since) FROM turns AS t
    WHERE t.tenant = c.tenant AND t.conversation = c.conversation AND t.answer IS NOT NULL
);

ALTER TABLE turns ADD COLUMN results json;
ALTER TABLE turns ADD COLUMN recalled json;
ALTER TABLE turns ADD COLUMN history_tokens integer;
ALTER TABLE turns ADD COLUMN embedder text COLLATE "C";
CREATE INDEX turns_user ON turns (tenant, "user", since);
CREATE INDEX turns_embedder ON turns (tenant, embedder) WHERE answer IS NOT NULL;

CREATE TABLE turn_words (
    tenant text, conversation text, word text COLLATE "C", ended bigint,
    PRIMARY KEY (tenant, conversation, word, ended)
);
CREATE TABLE turn_vectors (
    tenant text, conversation text, ended bigint, embedder text COLLATE "C" NOT NULL, vector vector(384) NOT NULL,
    PRIMARY KEY (tenant, conversation, ended)
);

CREATE TABLE summaries (
    tenant text, run text, conversation text NOT NULL,
    state text NOT NULL CONSTRAINT summaries_state CHECK (state IN ('wanted', 'told', 'failed')),
    upto text NOT NULL, ended bigint NOT NULL, text text, since timestamptz NOT NULL,
    PRIMARY KEY (tenant, run)
);
CREATE INDEX summaries_conversation ON summaries (tenant, conversation, ended);

CREATE TABLE user_facts (
    tenant text, "user" text, key text, text text NOT NULL, source text NOT NULL, since timestamptz NOT NULL,
    PRIMARY KEY (tenant, "user", key)
);
"""


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)
