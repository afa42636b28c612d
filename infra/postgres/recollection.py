"""What a turn is told, in Postgres: the turns before it, older ones near it, a summary, facts; decided once.

A person waits for it, so what is wanted comes in one statement: the selects of its parts, united.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from sqlalchemy import ColumnElement, TextClause, any_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.postgres.engine import array_of, literal
from infra.postgres.tables import turns
from schemas.events import Summary, Turn, UserFact
from schemas.tools import Value
from services.memory.budget import HISTORY_TURNS, shortened, within
from services.memory.facts import MOST, facts_for
from services.memory.ports import Recollection, Wanted
from services.memory.similar import COMMON, DEPTH, Meaning, Place, by_words, nearest
from services.memory.summaries import fitting, not_told
from services.memory.words import words

SAID = (turns.c.run, turns.c.task, turns.c.answer, turns.c.results)
"""The columns that make a Turn, in the order of `said`."""

_EVER = 2**62
_SUMMARIES = 20  # one of the last twenty ends where a history begins

# What is decided here need not reach the disk before it is told: the fact that tells it is in the log.
_ASKING = text("""
SELECT me.conversation, me."user", me.began, me.recalled, set_config('synchronous_commit', 'off', true),
    past.ended, past.run, past.task, past.answer, past.results
FROM turns AS me LEFT JOIN LATERAL (
    SELECT ended, run, left(task, :most) AS task, left(answer, :most) AS answer, results FROM turns
    WHERE tenant = me.tenant AND conversation = me.conversation AND answer IS NOT NULL AND ended < me.began
    ORDER BY ended DESC LIMIT :turns
) AS past ON true
WHERE me.tenant = :tenant AND me.run = :run FOR UPDATE OF me
""")

_AMONG = "conversation = ANY (CAST(:conversations AS text[]))"
_IN = "conversation = CAST(:conversation AS text)"  # of one conversation an index gives the newest first

# Each gives rows of: part, name, conversation, ended, score, text, more.
_NEAR = f"""
SELECT 'near', NULL, conversation, ended, 1 - (vector <=> CAST(:vector AS vector)) AS cosine, NULL, NULL
FROM turn_vectors
WHERE tenant = :tenant AND {_AMONG} AND embedder = :embedder AND ended < :before
ORDER BY cosine DESC, ended DESC, conversation LIMIT :depth
"""
# Of a word that too many turns have, one turn stands for all: that many.
_WORDS = f"""
SELECT 'word', word, held.conversation, held.ended, CASE WHEN held.turns < :common THEN 1 ELSE held.turns END, NULL, NULL
FROM unnest(CAST(:words AS text[])) AS word CROSS JOIN LATERAL (
    SELECT conversation, ended, count(*) OVER () AS turns, row_number() OVER () AS place FROM (
        SELECT conversation, ended FROM turn_words
        WHERE tenant = :tenant AND {_AMONG} AND turn_words.word = word.word
            AND ended < :before
        ORDER BY ended DESC LIMIT :common
    ) AS newest
) AS held
WHERE held.turns < :common OR held.place = 1
"""
_TOLD = f"""
SELECT 'summary', run, NULL, ended, NULL, text, upto FROM summaries
WHERE tenant = :tenant AND {_AMONG} AND state = 'told'
ORDER BY ended DESC LIMIT :summaries
"""
_FACTS = """
SELECT 'fact', key, NULL, NULL, NULL, text, source FROM user_facts
WHERE tenant = :tenant AND "user" = :user ORDER BY since DESC, key DESC LIMIT :facts
"""


class Decided(Value):
    """What is stored of a recollection; the history follows from the conversation's clock, turns are named by their runs."""

    similar: tuple[str, ...] = ()
    summary: Summary | None = None
    facts: tuple[UserFact, ...] = ()


@dataclass
class _Found:
    """The rows of all parts, sorted out."""

    near: dict[Place, float] = field(default_factory=dict)
    holders: dict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))
    summaries: list[tuple[int, Summary]] = field(default_factory=list)
    facts: list[UserFact] = field(default_factory=list)


def said(row: Sequence[object]) -> Turn:
    """A turn from a row of the columns SAID."""
    run, task, answer, results = row
    return Turn.model_validate({"run": run, "task": task, "answer": answer, "results": results or ()})


async def recall(connection: AsyncConnection, tenant: str, wanted: Wanted) -> Recollection:
    """ConversationStore.recall, within a transaction."""
    most = 4 * wanted.history_tokens + 1  # a longer text does not fit, however long it is
    asking = {"tenant": tenant, "run": wanted.run, "turns": HISTORY_TURNS + 1, "most": most}
    rows = (await connection.execute(_ASKING, asking)).all()
    if not rows or rows[0].began is None:
        return Recollection()
    conversation, user, _, recalled = rows[0][:4]
    ends = [row.ended for row in rows if row.ended is not None]
    history = within([said(row[-4:]) for row in reversed(rows[: min(len(ends), HISTORY_TURNS)])], wanted.history_tokens)
    missing = ends[len(history)] if len(history) < len(ends) else None
    if recalled is not None:
        decided = Decided.model_validate(recalled)
        similar = await _of_runs(connection, tenant, decided.similar) if decided.similar else ()
        untold = not_told(history, decided.summary)
        return Recollection(history=untold, similar=similar, summary=decided.summary, facts=decided.facts)
    new = await _decide(connection, tenant, conversation, user, wanted, missing)
    await _keep(connection, tenant, wanted, new)
    return new.model_copy(update={"history": not_told(history, new.summary)})


async def near(
    connection: AsyncConnection, tenant: str, conversations: Sequence[str], query: str, meaning: Meaning | None, k: int
) -> list[tuple[Place, float]]:
    """The k turns of the conversations nearest to a text; best first."""
    asked = words(query)
    parts = [*_similar_parts(asked, meaning)]
    found = await _find(connection, parts, _values(tenant, conversations, asked, meaning, _EVER))
    return nearest(found.near, by_words(asked, found.holders), meaning.fits if meaning else 1.0, k)


async def _decide(
    connection: AsyncConnection, tenant: str, conversation: str, user: str, wanted: Wanted, missing: int | None
) -> Recollection:
    """missing: when the newest turn before the history ended; None: there is none."""
    asked = words(wanted.query) if wanted.similar and missing is not None else []
    meaning = wanted.meaning if wanted.similar and missing is not None else None
    parts = [*_similar_parts(asked, meaning)]
    parts += [_TOLD] if wanted.summary and missing is not None else []
    parts += [_FACTS] if wanted.facts else []
    values = _values(tenant, [conversation], asked, meaning, (missing or 0) + 1)
    known = MOST if wanted.facts_when == "near" else wanted.facts
    found = await _find(connection, parts, {**values, "user": user, "facts": known, "summaries": _SUMMARIES})
    places = nearest(found.near, by_words(asked, found.holders), meaning.fits if meaning else 1.0, wanted.similar)
    similar = await _at(connection, tenant, conversation, [place.ended for place, _ in places]) if places else ()
    facts = facts_for(found.facts, wanted.query, wanted.facts) if wanted.facts_when == "near" else found.facts
    return Recollection(
        similar=similar, summary=fitting(sorted(found.summaries, key=lambda each: each[0]), missing),
        facts=tuple(sorted(facts, key=lambda fact: fact.key)),
    )  # fmt: skip


async def _keep(connection: AsyncConnection, tenant: str, wanted: Wanted, told: Recollection) -> None:
    decided = Decided(similar=tuple(turn.run for turn in told.similar), summary=told.summary, facts=told.facts)
    tokens = wanted.history_tokens if wanted.summary else None
    mine = (turns.c.tenant == tenant, turns.c.run == wanted.run)
    await connection.execute(update(turns).where(*mine).values(recalled=decided.model_dump(mode="json"), history_tokens=tokens))


def _similar_parts(asked: Sequence[str], meaning: Meaning | None) -> list[str]:
    return [*([_NEAR] if meaning else []), *([_WORDS] if asked else [])]


def _values(
    tenant: str, conversations: Sequence[str], asked: Sequence[str], meaning: Meaning | None, before: int
) -> dict[str, object]:
    alone = conversations[0] if len(conversations) == 1 else None
    return {
        "tenant": tenant, "conversations": list(conversations), "conversation": alone, "before": before,
        "words": list(asked), "depth": DEPTH, "common": COMMON + 1, "vector": literal(meaning.vector) if meaning else None,
        "embedder": meaning.embedder if meaning else "",
    }  # fmt: skip


@lru_cache
def _united(parts: tuple[str, ...], alone: bool) -> TextClause:
    """One statement. alone: of one conversation."""
    statement = " UNION ALL ".join(f"({part})" for part in parts)
    return text(statement.replace(_AMONG, _IN) if alone else statement)


async def _find(connection: AsyncConnection, parts: Sequence[str], values: Mapping[str, object]) -> _Found:
    found = _Found()
    if not parts:
        return found
    statement = _united(tuple(parts), values["conversation"] is not None)
    for part, name, conversation, ended, score, words_, more in await connection.execute(statement, values):
        if part == "near":
            found.near[Place(conversation, ended)] = score
        elif part == "word":
            found.holders[name] += [Place(conversation, ended)] * int(score)
        elif part == "summary":
            found.summaries.append((ended, Summary(text=words_, upto=more, by=name)))
        else:
            found.facts.append(UserFact(key=name, text=words_, source=more))
    return found


async def _at(connection: AsyncConnection, tenant: str, conversation: str, ends: Sequence[int]) -> tuple[Turn, ...]:
    return await _turns(connection, turns.c.tenant == tenant, turns.c.conversation == conversation, turns.c.ended.in_(ends))


async def _of_runs(connection: AsyncConnection, tenant: str, runs: Sequence[str]) -> tuple[Turn, ...]:
    return await _turns(connection, turns.c.tenant == tenant, turns.c.run == any_(array_of(runs)))


async def _turns(connection: AsyncConnection, *chosen: ColumnElement[bool]) -> tuple[Turn, ...]:
    rows = await connection.execute(select(*SAID).where(*chosen).order_by(turns.c.ended))
    return tuple(shortened(said(row)) for row in rows)
