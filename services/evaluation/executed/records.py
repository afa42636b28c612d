"""Databases of JSON records that are changed on a copy: what is read is shared, what is changed is one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import TypeAlias

from schemas.canonical import JsonObject, canonical, digest

Tables: TypeAlias = Mapping[str, Mapping[str, JsonObject]]
"""Records by their table and id."""


class Records:
    """The records of one episode over tables that many share. What a call changes counts once it is kept, or not at all."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._changed: dict[tuple[str, str], JsonObject | None] = {}
        self._staged: dict[tuple[str, str], JsonObject | None] = {}

    def get(self, table: str, id: str) -> JsonObject | None:
        """A record to read, None if there is none."""
        for changes in (self._staged, self._changed):
            if (table, id) in changes:
                return changes[table, id]
        return self._tables.get(table, {}).get(id)

    def all(self, table: str) -> Iterator[tuple[str, JsonObject]]:
        """The records of a table with their ids, those that were added last."""
        added = (id for of, id in (*self._changed, *self._staged) if of == table)
        for id in dict.fromkeys((*self._tables.get(table, {}), *added)):
            record = self.get(table, id)
            if record is not None:
                yield id, record

    def edit(self, table: str, id: str) -> JsonObject:
        """A record to change. Raises KeyError if there is none."""
        record = self.get(table, id)
        if record is None:
            raise KeyError(id)
        if (table, id) not in self._staged:
            self._staged[table, id] = deepcopy(record)
        found = self._staged[table, id]
        assert found is not None
        return found

    def put(self, table: str, id: str, record: JsonObject) -> None:
        """A new record, or another one in its place."""
        self._staged[table, id] = deepcopy(record)

    def drop(self, table: str, id: str) -> None:
        """Remove a record."""
        self._staged[table, id] = None

    def keep(self) -> None:
        """What was changed since the last time counts."""
        self._changed.update(self._staged)
        self._staged.clear()

    def forget(self) -> None:
        """What was changed since the last time is undone."""
        self._staged.clear()

    def differences(self) -> dict[str, JsonObject | None]:
        """Every record that is no longer as it was, by TABLE/ID; None: it is gone."""
        return {
            f"{table}/{id}": record for (table, id), record in sorted(self._changed.items())
            if record != self._tables.get(table, {}).get(id)
        }  # fmt: skip

    def state(self) -> str:
        """A digest of the whole state: equal for equal states over the same tables."""
        return digest("state", canonical(self.differences()))
