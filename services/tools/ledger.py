"""The effect ledger: who may cause an effect, whether it happened, and its receipt.

One entry a write key (schemas.tools.write_key). committed -> done | failed | in_doubt; in_doubt -> done | failed;
failed -> committed again. Nothing leaves done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.tools import Value

EffectState: TypeAlias = Literal["committed", "done", "failed", "in_doubt"]


class Claimed(Value):
    """The effect is this command's to cause, now."""


class Done(Value):
    """The effect has happened; this is its receipt. by: the command that caused it."""

    receipt: JsonObject
    by: str


class InProgress(Value):
    """Another command is about to cause the effect, or nobody knows whether it did (in_doubt)."""

    by: str
    since: datetime
    in_doubt: bool = False


class Mine(Value):
    """This command has claimed the effect before and did not finish: ask the provider, never just try again."""

    since: datetime
    in_doubt: bool = False


Claim: TypeAlias = Claimed | Done | InProgress | Mine


class NotYours(MilepostError):
    """A command tells the ledger about an effect it has not claimed, or denies one that is done."""


class EffectLedger(Protocol):
    """Entries of effects. Of two commands that claim a key at once exactly one gets Claimed. Every call is idempotent."""

    async def claim(
        self,
        key: str,
        tenant: str,
        run: str,
        command: str,
        tool: str,
        arguments: JsonObject,
        planned_state: str,
        now: datetime,
    ) -> Claim:
        """Ask for the right to cause the effect."""
        ...

    async def finish(self, key: str, tenant: str, command: str, receipt: JsonObject) -> None:
        """It happened; the first receipt stays. Raises NotYours."""
        ...

    async def fail(self, key: str, tenant: str, command: str, error: JsonObject) -> None:
        """It certainly did not happen; the key may be claimed again. Raises NotYours."""
        ...

    async def doubt(self, key: str, tenant: str, command: str, error: JsonObject) -> None:
        """Nobody knows whether it happened. Raises NotYours."""
        ...

    async def forget(self, tenant: str, runs: Sequence[str]) -> int:
        """Take arguments, receipts and errors out of the entries of these runs; keys and states stay, so that none repeats.

        How many were changed.
        """
        ...


FORGOTTEN: JsonObject = {"text": "It was done; what it said was erased on request."}
"""The receipt of an effect whose person was forgotten, in the form of a tool's result."""

CHANGES: dict[EffectState, frozenset[EffectState]] = {
    "done": frozenset({"committed", "in_doubt", "done"}),
    "failed": frozenset({"committed", "in_doubt", "failed"}),
    "in_doubt": frozenset({"committed", "in_doubt"}),
}
"""From which states a command may bring its entry into each state."""


def not_yours(key: str, command: str, state: EffectState) -> NotYours:
    """The error for a change that the entry does not allow."""
    return NotYours(f"Effect {key} cannot become {state} by command {command}.", why="it is done or another's claim")


@dataclass(frozen=True)
class _Entry:
    command: str
    state: EffectState
    since: datetime
    receipt: JsonObject | None = None
    tenant: str = ""
    run: str = ""
    erased: bool = False


class MemoryEffectLedger:
    """The ledger in a dictionary: the twin of the Postgres adapter, with the same contract."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    async def claim(
        self,
        key: str,
        tenant: str,
        run: str,
        command: str,
        tool: str,
        arguments: JsonObject,
        planned_state: str,
        now: datetime,
    ) -> Claim:
        entry = self._entries.get(key)
        if entry is None or entry.state == "failed":
            self._entries[key] = _Entry(command, "committed", now, tenant=tenant, run=run)
            return Claimed()
        return answer(entry.state, entry.command, command, entry.since, entry.receipt)

    async def finish(self, key: str, tenant: str, command: str, receipt: JsonObject) -> None:
        entry = self._change(key, command, "done")
        self._entries[key] = replace(entry, state="done", receipt=entry.receipt or receipt)

    async def fail(self, key: str, tenant: str, command: str, error: JsonObject) -> None:
        self._entries[key] = replace(self._change(key, command, "failed"), state="failed")

    async def doubt(self, key: str, tenant: str, command: str, error: JsonObject) -> None:
        self._entries[key] = replace(self._change(key, command, "in_doubt"), state="in_doubt")

    async def forget(self, tenant: str, runs: Sequence[str]) -> int:
        gone = [key for key, each in self._entries.items() if each.tenant == tenant and each.run in runs and not each.erased]
        for key in gone:
            entry = self._entries[key]
            self._entries[key] = replace(entry, receipt=entry.receipt and FORGOTTEN, erased=True)
        return len(gone)

    def _change(self, key: str, command: str, state: EffectState) -> _Entry:
        entry = self._entries.get(key)
        if entry is None or entry.command != command or entry.state not in CHANGES[state]:
            raise not_yours(key, command, state)
        return entry


def answer(state: EffectState, owner: str, command: str, since: datetime, receipt: JsonObject | None) -> Claim:
    """What a claim hears about an entry that is there and not failed."""
    if state == "done":
        return Done(receipt=receipt or {}, by=owner)
    in_doubt = state == "in_doubt"
    return Mine(since=since, in_doubt=in_doubt) if owner == command else InProgress(by=owner, since=since, in_doubt=in_doubt)
