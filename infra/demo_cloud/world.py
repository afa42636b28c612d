"""The demo cloud's world: resources, their past, client tokens and the journal of effects, in one SQLite file.

A request's effect, its token and its journal line are one transaction, on disk before the answer goes out.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

Resource = dict[str, object]
Kind = Literal["instance", "disk", "snapshot", "security_group", "invocation"]

_TABLES = """
CREATE TABLE IF NOT EXISTS resource (kind TEXT, id TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, id));
CREATE TABLE IF NOT EXISTS past (at TEXT NOT NULL, kind TEXT, id TEXT, body TEXT);
CREATE INDEX IF NOT EXISTS past_of ON past (kind, id, at);
CREATE TABLE IF NOT EXISTS token (
    action TEXT, token TEXT, params TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (action, token));
CREATE TABLE IF NOT EXISTS effect (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, request_id TEXT NOT NULL, action TEXT NOT NULL,
    resource TEXT NOT NULL, order_id TEXT, token TEXT, params TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """One applied write, as the journal keeps it."""

    at: datetime
    request_id: str
    action: str
    resource: str
    order_id: str | None
    token: str | None
    params: dict[str, str]


class World:
    """Resources by kind and id. Not thread-safe: one process, one event loop."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_TABLES)
        self._now = datetime.min.replace(tzinfo=UTC)
        self._seen: datetime | None = None

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: any exception undoes what the block wrote."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def moment(self, now: datetime, lag_s: float = 0.0) -> Iterator[None]:
        """What the block writes happens now; what it reads is as it was so many seconds ago."""
        self._now, self._seen = now, now - timedelta(seconds=lag_s) if lag_s else None
        try:
            yield
        finally:
            self._seen = None

    def is_new(self) -> bool:
        """Whether nothing was ever put into this world."""
        return self._db.execute("SELECT 1 FROM resource LIMIT 1").fetchone() is None

    def get(self, kind: Kind, name: str) -> Resource | None:
        """A resource by its id."""
        if self._seen is not None:
            sql = "SELECT body FROM past WHERE kind = ? AND id = ? AND at <= ? ORDER BY at DESC, rowid DESC LIMIT 1"
            row = self._db.execute(sql, (kind, name, self._seen.isoformat())).fetchone()
        else:
            row = self._db.execute("SELECT body FROM resource WHERE kind = ? AND id = ?", (kind, name)).fetchone()
        return None if row is None or row[0] is None else json.loads(row[0])

    def all(self, kind: Kind) -> list[Resource]:
        """Every resource of a kind, in the order in which they were made."""
        if self._seen is not None:
            names = self._db.execute("SELECT id FROM past WHERE kind = ? GROUP BY id ORDER BY MIN(rowid)", (kind,)).fetchall()
            found = (self.get(kind, name) for (name,) in names)
            return [body for body in found if body is not None]
        rows = self._db.execute("SELECT body FROM resource WHERE kind = ? ORDER BY rowid", (kind,))
        return [json.loads(row[0]) for row in rows]

    def put(self, kind: Kind, name: str, body: Resource) -> None:
        """Make or replace a resource."""
        sql = "INSERT INTO resource VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body"
        text = json.dumps(body, ensure_ascii=False)
        self._db.execute(sql, (kind, name, text))
        self._remember(kind, name, text)

    def remove(self, kind: Kind, name: str) -> None:
        """Drop a resource."""
        self._db.execute("DELETE FROM resource WHERE kind = ? AND id = ?", (kind, name))
        self._remember(kind, name, None)

    def _remember(self, kind: Kind, name: str, text: str | None) -> None:
        self._db.execute("INSERT INTO past VALUES (?, ?, ?, ?)", (self._now.isoformat(), kind, name, text))

    def answered(self, action: str, token: str) -> tuple[str, Resource] | None:
        """The parameters and the answer of an earlier request with this client token."""
        sql = "SELECT params, answer FROM token WHERE action = ? AND token = ?"
        row = self._db.execute(sql, (action, token)).fetchone()
        return None if row is None else (row[0], json.loads(row[1]))

    def remember(self, action: str, token: str, params: str, answer: Resource) -> None:
        """Keep the answer to a client token for good."""
        self._db.execute("INSERT INTO token VALUES (?, ?, ?, ?)", (action, token, params, json.dumps(answer)))

    def record(self, effect: Effect) -> None:
        """Write a line of the journal."""
        self._db.execute(
            "INSERT INTO effect (at, request_id, action, resource, order_id, token, params) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                effect.at.isoformat(),
                effect.request_id,
                effect.action,
                effect.resource,
                effect.order_id,
                effect.token,
                json.dumps(effect.params, ensure_ascii=False),
            ),
        )

    def recorded(self) -> int:
        """How many effects there ever were."""
        return int(self._db.execute("SELECT COALESCE(MAX(seq), 0) FROM effect").fetchone()[0])

    def effects(self) -> list[Resource]:
        """The journal, oldest first: what happened to what, when, and under which order and client token."""
        columns = ("seq", "at", "request_id", "action", "resource", "order_id", "token", "params")
        rows = self._db.execute(f"SELECT {', '.join(columns)} FROM effect ORDER BY seq")
        lines = [dict(zip(columns, row, strict=True)) for row in rows]
        return [line | {"params": json.loads(line["params"])} for line in lines]
