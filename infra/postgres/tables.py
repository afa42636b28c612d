"""The tables, as the adapters query them; the migrations create them, and a test compares the two."""

from __future__ import annotations

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR

DIMENSIONS = 384

metadata = MetaData()

_MOMENT = DateTime(timezone=True)

# JSON, not JSONB: the order of a card's parameters is part of the prompt.
tool_cards = Table(
    "tool_cards",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("card", JSON, nullable=False),
    Column("hash", Text, nullable=False),
    Column("words", TSVECTOR, nullable=False),
    Column("embedder", Text),
    Column("vector", VECTOR(DIMENSIONS)),
    Column("updated", _MOMENT, nullable=False, server_default=text("now()")),
    Index("tool_cards_words", "words", postgresql_using="gin"),
    Index("tool_cards_name", "name", postgresql_using="gin", postgresql_ops={"name": "gin_trgm_ops"}),
    Index("tool_cards_vector", "vector", postgresql_using="hnsw", postgresql_ops={"vector": "vector_cosine_ops"}),
)

documents = Table(
    "documents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("added", _MOMENT, nullable=False),
    UniqueConstraint("tenant", "collection", "source", name="documents_place"),
)

passages = Table(
    "passages",
    metadata,
    Column("document", Text, ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    Column("hash", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("heading", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("begins", Integer, nullable=False),
    Column("ends", Integer, nullable=False),
    Column("words", TSVECTOR, nullable=False),
    Column("embedder", Text, nullable=False),
    Column("vector", VECTOR(DIMENSIONS), nullable=False),
    Index("passages_collection", "tenant", "collection"),
    Index("passages_words", "words", postgresql_using="gin"),
    Index("passages_text", "text", postgresql_using="gin", postgresql_ops={"text": "gin_trgm_ops"}),
    Index("passages_vector", "vector", postgresql_using="hnsw", postgresql_ops={"vector": "vector_cosine_ops"}),
)

# clock counts the begins and ends of turns, so that a turn always sees the same history.
conversations = Table(
    "conversations",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("conversation", Text, primary_key=True),
    Column("open_run", Text),
    Column("open_deadline", _MOMENT),
    Column("clock", BigInteger, nullable=False, server_default=text("0")),
)

turns = Table(
    "turns",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("conversation", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("arrived", BigInteger, nullable=False),
    Column("began", BigInteger),
    Column("ended", BigInteger),
    Column("deadline", _MOMENT),
    Column("behind", Text),
    Column("interrupts", Boolean, nullable=False, server_default=text("false")),
    Column("task", Text),
    Column("answer", Text),
    Column("outcome", Text),
    Column("released", Text),
    Column("since", _MOMENT, nullable=False),
    CheckConstraint("state IN ('open', 'waiting', 'refused', 'ended')", name="turns_state"),
    Index("turns_history", "tenant", "conversation", "ended"),
)

events = Table(
    "events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("slot", Text, nullable=False),
    Column("time", _MOMENT, nullable=False),
    Column("stream", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("summary", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Index("events_run", "run", "seq"),
)

runs = Table(
    "runs",
    metadata,
    Column("run", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("conversation", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("answer", Text),
    Column("started", _MOMENT, nullable=False),
    Column("ended", _MOMENT),
    Column("steps", Integer, nullable=False),
    Column("tools", ARRAY(Text), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("runs_started", "tenant", "started"),
    Index("runs_task", "task", postgresql_using="gin", postgresql_ops={"task": "gin_trgm_ops"}),
)

watermarks = Table(
    "watermarks",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("created", _MOMENT),
)

effects = Table(
    "effects",
    metadata,
    Column("key", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("planned_state", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("receipt", JSON),
    Column("error", JSON),
    Column("since", _MOMENT, nullable=False),
    CheckConstraint("state IN ('committed', 'done', 'failed', 'in_doubt')", name="effects_state"),
    Index("effects_run", "run"),
)
