"""The tables, as the adapters query them; the migrations create them, and a test compares the two."""

from __future__ import annotations

from pgvector.sqlalchemy import HALFVEC, SPARSEVEC, VECTOR
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INT8MULTIRANGE, JSONB, TSVECTOR

DIMENSIONS = 384

metadata = MetaData()

_MOMENT = DateTime(timezone=True)

# One row a tenant that has or had cards.
tool_catalogues = Table(
    "tool_catalogues",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("cards", Integer, nullable=False),
)

# JSON, not JSONB: the order of a card's parameters is part of the prompt.
tool_versions = Table(
    "tool_versions",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text(collation="C"), primary_key=True),
    Column("since", BigInteger, primary_key=True),
    Column("until", BigInteger),
    Column("card", JSON, nullable=False),
)

# What the versions that hold now are found by. digest: of the text that is embedded; embedder: whose vector it has;
# words: which it holds; weights: what each of them tells about it, as BM25 has it.
tool_cards = Table(
    "tool_cards",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text(collation="C"), primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("lane", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("embedder", Text, nullable=False, server_default=text("''")),
    Column("words", TSVECTOR, nullable=False),
    Column("weights", SPARSEVEC(1_000_000_000), nullable=False),
    Index("tool_cards_words", "words", postgresql_using="gin"),
    Index("tool_cards_name", "name", postgresql_using="gin", postgresql_ops={"name": "gin_trgm_ops"}),
    Index("tool_cards_digest", "digest"),
    Index("tool_cards_embedder", "embedder", "since", "tenant"),
    Index("tool_cards_lane", "lane"),
)

# In how many of a tenant's cards a word stands.
tool_words = Table(
    "tool_words",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("word", Text(collation="C"), primary_key=True),
    Column("cards", Integer, nullable=False),
)

# Vectors belong to texts, not to tenants: who does not have the text cannot ask for its vector.
tool_vectors = Table(
    "tool_vectors",
    metadata,
    Column("embedder", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("vector", HALFVEC(DIMENSIONS), nullable=False),
    Index("tool_vectors_vector", "vector", postgresql_using="hnsw", postgresql_ops={"vector": "halfvec_ip_ops"}),
)

tool_hosts = Table(
    "tool_hosts",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("seen", _MOMENT, nullable=False),
    Column("queue", Integer, nullable=False),
    Column("failing", Double, nullable=False),
)

# Where imported tools come from; JSON, not JSONB, as in tool_versions.
tool_sources = Table(
    "tool_sources",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("title", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("since", _MOMENT, nullable=False),
)

# digest: over card and call, to tell what an import changes.
tool_specs = Table(
    "tool_specs",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("name", Text(collation="C"), primary_key=True),
    Column("card", JSON, nullable=False),
    Column("call", JSON, nullable=False),
    Column("digest", Text, nullable=False),
)

# version: counts the changes; passages: how many are held, of all versions.
collections = Table(
    "collections",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("collection", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    Column("passages", BigInteger, nullable=False, server_default=text("0")),
)

# In how many passages of a collection a word stands.
lexicon = Table(
    "lexicon",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("collection", Text, primary_key=True),
    Column("word", Text(collation="C"), primary_key=True),
    Column("held", BigInteger, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("source", Text, nullable=False),
    UniqueConstraint("tenant", "collection", "source", name="documents_place"),
)

# A document as it was from one version of its collection on until before another.
editions = Table(
    "editions",
    metadata,
    Column("document", Text, ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("until", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("added", _MOMENT, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("digest", Text, nullable=False),
    Index("editions_collection", "tenant", "collection"),
)

# Where the passages of an edition stand in it.
pieces = Table(
    "pieces",
    metadata,
    Column("document", Text, primary_key=True),
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("tenant", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("begins", Integer, nullable=False),
    Column("ends", Integer, nullable=False),
    Column("page", Integer),
    ForeignKeyConstraint(["document", "since"], ["editions.document", "editions.since"], ondelete="CASCADE"),
    Index("pieces_hash", "document", "hash"),
)

# held: in which versions of the collection it stands.
passages = Table(
    "passages",
    metadata,
    Column("document", Text, ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    Column("hash", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("held", INT8MULTIRANGE, nullable=False),
    Column("heading", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("words", TSVECTOR, nullable=False),
    Column("weights", SPARSEVEC(1_000_000_000), nullable=False),
    Column("embedder", Text, nullable=False),
    Column("vector", VECTOR(DIMENSIONS), nullable=False),
    Index("passages_collection", "tenant", "collection"),
    Index("passages_words", "tenant", "collection", "words", postgresql_using="gin"),
    Index("passages_vector", "vector", postgresql_using="hnsw", postgresql_ops={"vector": "vector_cosine_ops"}),
)

# Sections of documents on their way in: chunks and their vectors.
uploads = Table(
    "uploads",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("upload", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("added", _MOMENT, nullable=False),
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
    Column("last", _MOMENT),
    Index("conversations_last", "tenant", "last"),
)

# recalled: what else than its history the turn was told, so that it is told the same again. history_tokens: how much
# history it took, when it wants what falls out of that to be summarised. embedder: whose vector of the turn there is.
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
    Column("results", JSON),
    Column("recalled", JSON),
    Column("history_tokens", Integer),
    Column("embedder", Text(collation="C")),
    CheckConstraint("state IN ('open', 'waiting', 'refused', 'ended')", name="turns_state"),
    Index("turns_history", "tenant", "conversation", "ended"),
    Index("turns_user", "tenant", "user", "since"),
    Index("turns_embedder", "tenant", "embedder", postgresql_where=text("answer IS NOT NULL")),
)

# A row a word, found by equality: under row level security the other ways of finding words read every turn.
turn_words = Table(
    "turn_words",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("conversation", Text, primary_key=True),
    Column("word", Text(collation="C"), primary_key=True),
    Column("ended", BigInteger, primary_key=True, autoincrement=False),
)

# Compared one by one: a conversation has thousands of turns, not millions.
turn_vectors = Table(
    "turn_vectors",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("conversation", Text, primary_key=True),
    Column("ended", BigInteger, primary_key=True, autoincrement=False),
    Column("embedder", Text(collation="C"), nullable=False),
    Column("vector", VECTOR(DIMENSIONS), nullable=False),
)

# run: who writes it; upto and ended: the last turn that it covers. text of one that is wanted: how it will begin.
summaries = Table(
    "summaries",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("conversation", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("upto", Text, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("text", Text),
    Column("since", _MOMENT, nullable=False),
    CheckConstraint("state IN ('wanted', 'told', 'failed')", name="summaries_state"),
    Index("summaries_conversation", "tenant", "conversation", "ended"),
)

user_facts = Table(
    "user_facts",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("user", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("since", _MOMENT, nullable=False),
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
    Index("events_line", "summary", postgresql_using="gin", postgresql_ops={"summary": "gin_trgm_ops"}),
)

# cost: the largest amount of `money`, whatever its currency; not numeric, whose comparisons the planner knows nothing of here.
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
    Column("sealed", Boolean, nullable=False, server_default=text("false")),
    Column("erased", Boolean, nullable=False, server_default=text("false")),
    Column("events", Integer, nullable=False, server_default=text("0")),
    Column("models", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("cached", BigInteger, nullable=False, server_default=text("0")),
    Column("writes", Integer, nullable=False, server_default=text("0")),
    Column("money", JSONB, nullable=False, server_default=text("'{}'")),
    Column("cost", Double, nullable=False, server_default=text("0")),
    Column("parent", Text),
    Column("fork_of", Text),
    Column("receipt", BigInteger),
    Index("runs_started", "tenant", "started", "run"),
    Index("runs_status", "tenant", "status", "started", "run"),
    Index("runs_agent", "tenant", "agent", "started", "run"),
    Index("runs_user", "tenant", "user", "run"),
    Index("runs_asker", "tenant", "user", "started", "run"),
    Index("runs_conversation", "tenant", "conversation", "started", "run"),
    Index("runs_forks", "tenant", "fork_of", "started", "run", postgresql_where=text("fork_of IS NOT NULL")),
    Index("runs_tokens", "tenant", "tokens"),
    Index("runs_cost", "tenant", "cost", postgresql_where=text("cost > 0")),
    Index("runs_tools", "tools", postgresql_using="gin"),
    Index("runs_models", "models", postgresql_using="gin"),
    Index("runs_task", "task", postgresql_using="gin", postgresql_ops={"task": "gin_trgm_ops"}),
    Index("runs_answer", "answer", postgresql_using="gin", postgresql_ops={"answer": "gin_trgm_ops"}),
)

# What each run used; hash is empty for what has no versions.
run_uses = Table(
    "run_uses",
    metadata,
    Column("run", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Text(collation="C"), primary_key=True),
    Column("how", Text, primary_key=True),
    Column("hash", Text(collation="C"), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text(collation="C"), nullable=False),
    Column("detail", Text, nullable=False),
    Column("time", _MOMENT, nullable=False),
    Index("run_uses_id", "tenant", "id"),
    Index("run_uses_name", "tenant", "name"),
    Index("run_uses_hash", "tenant", "hash"),
)

watermarks = Table(
    "watermarks",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("created", _MOMENT),
)

# token, lease: who holds the claim until when; look: when somebody is to look after it. Both run by the database's clock.
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
    Column("base", Text, nullable=False),
    Column("round", Integer, nullable=False, server_default="0"),
    Column("conversation", Text, nullable=False, server_default=""),
    Column("user", Text, nullable=False, server_default=""),
    Column("approval", Text),
    Column("datakey", Text),
    Column("lane", Text, nullable=False, server_default="builtin"),
    Column("price", Text),
    Column("currency", Text),
    Column("attempts", Integer, nullable=False, server_default="1"),
    Column("token", Text, nullable=False, server_default=""),
    Column("lease", _MOMENT, nullable=False, server_default=text("now()")),
    Column("first_sent", _MOMENT),
    Column("last_sent", _MOMENT),
    Column("finished", _MOMENT),
    Column("look", _MOMENT),
    Column("looks", Integer, nullable=False, server_default="0"),
    Column("settled_by", Text),
    Column("note", Text, nullable=False, server_default=""),
    Column("told", Boolean, nullable=False, server_default=text("true")),
    Column("undone_by", Text),
    CheckConstraint("state IN ('committed', 'done', 'failed', 'in_doubt')", name="effects_state"),
    Index("effects_run", "run"),
    Index("effects_base", "base", "round"),
    Index("effects_since", "tenant", "since", "key"),
    Index("effects_look", "lane", "look", postgresql_where=text("look IS NOT NULL")),
)

# A key that was destroyed keeps its row, so that who asks for it is told so; nothing in it names the user any more.
data_keys = Table(
    "data_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("user", Text),
    Column("wrapped", LargeBinary),
    Column("made", _MOMENT, nullable=False, server_default=text("now()")),
    Column("destroyed", _MOMENT),
    CheckConstraint(
        '(wrapped IS NULL) = (destroyed IS NOT NULL) AND (wrapped IS NULL) = ("user" IS NULL)', name="data_keys_destroyed"
    ),
    Index("data_keys_user", "tenant", "user", unique=True),
)

# user: until it is done; then subject, a digest, is all that tells who it was.
forgettings = Table(
    "forgettings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("user", Text),
    Column("subject", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked", _MOMENT, nullable=False),
    Column("finished", _MOMENT),
    Column("report", JSON, nullable=False),
    CheckConstraint('("user" IS NULL) = (finished IS NOT NULL)', name="forgettings_finished"),
    Index("forgettings_user", "tenant", "user", unique=True),
)

# What a tenant's rules were from when on; the newest version holds.
policy_versions = Table(
    "policy_versions",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("policy", JSON, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("note", Text, nullable=False),
)

# Standing approvals. arguments_key: as calls with equal arguments have it (schemas.tools.call_key).
policy_grants = Table(
    "policy_grants",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("tool", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("conversation", Text, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("arguments_key", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("since", _MOMENT, nullable=False),
    Column("expires", _MOMENT),
    Column("revoked", _MOMENT),
    Column("revoked_by", Text),
    CheckConstraint("scope IN ('conversation', 'always')", name="policy_grants_scope"),
    Index("policy_grants_tool", "tenant", "tool", "agent"),
)

# Rights to call that were taken back; what is not named covers every call.
policy_revocations = Table(
    "policy_revocations",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("run", Text),
    Column("tool", Text),
    Column("agent", Text),
    Column("user", Text),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", _MOMENT, nullable=False),
    Column("until", _MOMENT),
    Column("lifted", _MOMENT),
    Column("lifted_by", Text),
    Index("policy_revocations_open", "tenant", postgresql_where=text("lifted IS NULL")),
)

# What was let through, once for each limit that counts it. settled: it is known to have happened.
policy_charges = Table(
    "policy_charges",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("limit_name", Text(collation="C"), primary_key=True),
    Column("bucket", Text(collation="C"), nullable=False),
    Column("run", Text, nullable=False),
    Column("call", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("money", Numeric, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("settled", Boolean, nullable=False),
    Index("policy_charges_limit", "tenant", "limit_name", "bucket", "at"),
)

# Who changed what may happen, and when.
policy_changes = Table(
    "policy_changes",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", _MOMENT, nullable=False),
    Column("by", Text, nullable=False),
    Column("deed", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

# What the log says in RunSealed facts, and what it will say. JSON, not JSONB: it is signed as it is written.
receipts = Table(
    "receipts",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("run", Text, nullable=False),
    Column("part", Integer, nullable=False),
    Column("hash", Text, nullable=False),
    Column("sealed", JSON, nullable=False),
    Column("published", Boolean, nullable=False),
    UniqueConstraint("tenant", "run", "part", name="receipts_part"),
    Index("receipts_unpublished", "tenant", "number", postgresql_where=text("NOT published")),
)

# Runs with facts that no receipt counts yet.
receipts_due = Table(
    "receipts_due",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Index("receipts_due_at", "at"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("at", _MOMENT, primary_key=True),
    Column("checkpoint", JSON, nullable=False),
)

# Candidates beside what serves. swap: what stands in place of it (infra.shadow.shadow.Candidate); before: what a promotion
# replaced.
shadows = Table(
    "shadows",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text(collation="C"), primary_key=True),
    Column("swap", JSONB, nullable=False),
    Column("said", Text, nullable=False),
    Column("share", Double, nullable=False),
    Column("tokens_per_hour", BigInteger),
    Column("since", _MOMENT, nullable=False),
    Column("state", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("created", _MOMENT, nullable=False),
    Column("trouble", Text, nullable=False, server_default=text("''")),
    Column("before", JSONB),
    Column("promoted", _MOMENT),
    Column("note", Text, nullable=False, server_default=text("''")),
    CheckConstraint("state IN ('running', 'stopped', 'promoted', 'rolled back')", name="shadows_state"),
)

# What a candidate answered to what the log says was asked. event: the answer's number in its run; result: figures, and what it
# quotes under the run's own key.
shadow_differences = Table(
    "shadow_differences",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("shadow", Text(collation="C"), primary_key=True),
    Column("run", Text(collation="C"), primary_key=True),
    Column("event", Integer, primary_key=True, autoincrement=False),
    Column("risk", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("result", JSONB, nullable=False),
    ForeignKeyConstraint(["tenant", "shadow"], ["shadows.tenant", "shadows.name"], ondelete="CASCADE"),
    Index("shadow_differences_at", "tenant", "shadow", "at"),
)

# API keys of the door. hash: SHA-256 of the secret; roles: services.gateway.principal.DoorRole.
door_keys = Table(
    "door_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text(collation="C"), primary_key=True),
    Column("name", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("roles", JSONB, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created", _MOMENT, nullable=False),
    Column("expires", _MOMENT),
    Column("revoked", _MOMENT),
)

# Agents as people keep them, a row a version. spec: schemas.agent.AgentSpec; picture: an emoji or a data URL.
agents = Table(
    "agents",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text(collation="C"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("picture", Text, nullable=False),
    Column("suggestions", JSONB, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("published", Boolean, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("note", Text, nullable=False),
)

# What begins runs by itself. trigger: services.gateway.triggers.trigger.Trigger; enabled and kind of it; scheduled: a clock's
# last time that was fired.
triggers = Table(
    "triggers",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text(collation="C"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("trigger", JSONB, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("kind", Text, nullable=False),
    Column("scheduled", _MOMENT),
)

# What came of each thing that fired a trigger: the last thousand.
trigger_firings = Table(
    "trigger_firings",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("trigger", Text(collation="C"), primary_key=True),
    Column("key", Text(collation="C"), primary_key=True),
    Column("at", _MOMENT, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("run", Text),
    Column("why", Text, nullable=False),
    Column("ended", Boolean, nullable=False),
    ForeignKeyConstraint(["tenant", "trigger"], ["triggers.tenant", "triggers.name"], ondelete="CASCADE"),
    CheckConstraint("outcome IN ('pending', 'begun', 'skipped', 'failed')", name="trigger_firings_outcome"),
    Index("trigger_firings_at", "tenant", "trigger", "at"),
)

# Chats of messengers. channel: services.gateway.channels.channel.Channel; secrets stand in the environment, not here.
channels = Table(
    "channels",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text(collation="C"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("channel", JSONB, nullable=False),
)

# Runs whose answers go to a chat. target: where to, until it expires; leased: somebody follows it; told: approvals shown there.
channel_replies = Table(
    "channel_replies",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("channel", Text(collation="C"), primary_key=True),
    Column("run", Text(collation="C"), primary_key=True),
    Column("chat", Text(collation="C"), nullable=False),
    Column("user", Text, nullable=False),
    Column("target", JSONB, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("until", _MOMENT, nullable=False),
    Column("leased", _MOMENT),
    Column("told", JSONB, nullable=False),
    ForeignKeyConstraint(["tenant", "channel"], ["channels.tenant", "channels.name"], ondelete="CASCADE"),
)

# Messages that were read before, for as long as their signatures are good.
channel_seen = Table(
    "channel_seen",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("channel", Text(collation="C"), primary_key=True),
    Column("id", Text(collation="C"), primary_key=True),
    Column("at", _MOMENT, nullable=False),
    ForeignKeyConstraint(["tenant", "channel"], ["channels.tenant", "channels.name"], ondelete="CASCADE"),
    Index("channel_seen_at", "tenant", "channel", "at"),
)
