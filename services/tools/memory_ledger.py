"""The ledger in a dictionary: the twin of the Postgres adapter, with the same contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from schemas.canonical import JsonObject
from services.tools.ledger import (
    CHANGES,
    FORGOTTEN,
    GRACE_S,
    Claim,
    Claimed,
    Done,
    Effect,
    EffectFilter,
    EffectState,
    InProgress,
    Intent,
    Mine,
    UnknownEffect,
    not_open,
    not_yours,
    pause_after,
    settled_otherwise,
)


def loop_time() -> float:
    """Seconds as the running loop counts them."""
    return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class _Row:
    """An entry, and who holds it until when (seconds of the ledger's clock). look: when it is to be looked after."""

    effect: Effect
    token: str
    lease: float
    look: float | None
    looks: int = 0
    first_sent: float | None = None
    last_sent: float | None = None
    erased: bool = False


class MemoryEffectLedger:
    """EffectLedger of one process. time: seconds, by which leases run."""

    def __init__(self, time: Callable[[], float] = loop_time, *, grace_s: float = GRACE_S) -> None:
        self._time, self._grace_s = time, grace_s
        self._rows: dict[str, _Row] = {}

    async def claim(self, intent: Intent, token: str, now: datetime, lease_s: float, *, sending: bool = False) -> Claim:
        row, moment = self._rows.get(intent.key), self._time()
        if row is None or (row.effect.state == "failed" and row.effect.told):
            fresh = Effect(**intent.model_dump(), state="committed", since=now)
            sent = moment if sending else None
            self._rows[intent.key] = _Row(
                fresh, token, moment + lease_s, moment + lease_s + self._grace_s, first_sent=sent, last_sent=sent
            )  # fmt: skip
            return Claimed(sending=sending)
        effect = row.effect
        if effect.state == "done":
            return Done(receipt=effect.receipt or {}, by=effect.command)
        if effect.state != "committed" or effect.command != intent.command or (row.lease > moment and row.token != token):
            return InProgress(by=effect.command, since=effect.since, in_doubt=effect.state == "in_doubt")
        self._rows[intent.key] = replace(
            row, token=token, lease=moment + lease_s, look=moment + lease_s + self._grace_s,
            effect=effect.model_copy(update={"attempts": effect.attempts + 1}),
        )  # fmt: skip
        if row.first_sent is None or row.last_sent is None:
            return Claimed(again=True)
        return Mine(since=effect.since, first_s=moment - row.first_sent, last_s=moment - row.last_sent)

    async def hold(
        self, key: str, tenant: str, token: str, lease_s: float, *, sending: bool,
        price: str | None = None, currency: str | None = None,
    ) -> bool:  # fmt: skip
        row, moment = self._rows.get(key), self._time()
        if row is None or row.token != token or row.effect.state not in ("committed", "in_doubt"):
            return False
        said = {"price": price or row.effect.price, "currency": currency or row.effect.currency}
        first = moment if row.first_sent is None else row.first_sent
        if sending:
            row = replace(row, first_sent=first, last_sent=moment)
        self._rows[key] = replace(
            row, lease=moment + lease_s, look=moment + lease_s + self._grace_s,
            effect=row.effect.model_copy(update=said),
        )  # fmt: skip
        return True

    async def release(self, key: str, tenant: str, token: str) -> None:
        row = self._rows.get(key)
        if row and row.token == token and row.effect.state == "committed":
            self._rows[key] = replace(row, lease=self._time(), look=self._time() + self._grace_s)

    async def finish(self, key: str, tenant: str, command: str, receipt: JsonObject, now: datetime) -> None:
        row = self._rows.get(key)
        if row is None or row.effect.command != command:
            raise not_yours(key, "done")
        if row.effect.state != "done":
            self._become(row, "done", now, receipt=receipt)

    async def fail(self, key: str, tenant: str, token: str, error: JsonObject, now: datetime) -> None:
        self._leave(key, token, "failed", error, now)

    async def doubt(self, key: str, tenant: str, token: str, error: JsonObject, now: datetime) -> None:
        self._leave(key, token, "in_doubt", error, now)

    async def settle(
        self, key: str, tenant: str, now: datetime, *, happened: bool, by: str, note: str = "",
        receipt: JsonObject | None = None, token: str = "",
    ) -> Effect:  # fmt: skip
        row = self._of(tenant, key)
        state: EffectState = "done" if happened else "failed"
        if row.effect.state in ("done", "failed"):
            if row.effect.state != state:
                raise settled_otherwise(row.effect)
            return self._shown(row)
        if row.effect.state == "committed" and row.lease > self._time() and row.token != token:
            raise not_yours(key, state)
        self._become(row, state, now, receipt=receipt, settled_by=by, note=note, told=False)
        return self._shown(self._rows[key])

    async def look_after(self, lane: str, token: str, limit: int, lease_s: float) -> list[Effect]:
        moment = self._time()
        due = [
            each for each in self._rows.values() if each.effect.lane == lane and each.look is not None and each.look <= moment
        ]
        return [self._taken(row, token, lease_s) for row in sorted(due, key=lambda row: row.look or 0.0)[:limit]]

    async def take(self, key: str, tenant: str, token: str, lease_s: float) -> Effect:
        row = self._of(tenant, key)
        if row.effect.state not in ("committed", "in_doubt") or row.lease > self._time():
            raise not_open(key)
        return self._taken(row, token, lease_s)

    async def told(self, key: str, tenant: str) -> None:
        row = self._of(tenant, key)
        self._rows[key] = replace(row, look=None, effect=row.effect.model_copy(update={"told": True}))

    async def last_done(self, tenant: str, base: str) -> Effect | None:
        rounds = [each for each in self._effects(tenant) if each.base == base and each.state == "done"]
        return max(rounds, key=lambda each: each.round, default=None)

    async def show(self, tenant: str, key: str) -> Effect | None:
        found = [each for each in self._effects(tenant) if each.key == key or (len(key) >= 8 and each.key.startswith(key))]
        if len(found) > 1:
            raise UnknownEffect(key)
        return found[0] if found else None

    async def list_effects(self, tenant: str, which: EffectFilter, limit: int) -> list[Effect]:
        def fits(each: Effect) -> bool:
            return (
                (not which.states or each.state in which.states)
                and which.tool in (None, each.tool) and which.run in (None, each.run)
                and which.conversation in (None, each.conversation)
                and (which.before is None or each.since < which.before)
            )  # fmt: skip

        return sorted(filter(fits, self._effects(tenant)), key=lambda each: (each.since, each.key), reverse=True)[:limit]

    async def undone(self, key: str, tenant: str, run: str) -> None:
        row = self._of(tenant, key)
        self._rows[key] = replace(row, effect=row.effect.model_copy(update={"undone_by": run}))

    async def forget(self, tenant: str, runs: Sequence[str]) -> int:
        gone = [
            each for each in self._rows.values() if each.effect.tenant == tenant and each.effect.run in runs and not each.erased
        ]
        for row in gone:
            blank = {
                "arguments": {}, "planned_state": "", "error": None, "note": "", "user": "", "conversation": "",
                "receipt": row.effect.receipt and FORGOTTEN,
            }  # fmt: skip
            self._rows[row.effect.key] = replace(row, erased=True, effect=row.effect.model_copy(update=blank))
        return len(gone)

    # --- rows ---

    def _taken(self, row: _Row, token: str, lease_s: float) -> Effect:
        moment = self._time()
        look = moment + max(pause_after(row.looks), lease_s)
        self._rows[row.effect.key] = replace(row, token=token, lease=moment + lease_s, look=look, looks=row.looks + 1)
        return self._shown(row)

    def _shown(self, row: _Row) -> Effect:
        sent_s = None if row.first_sent is None else self._time() - row.first_sent
        return row.effect.model_copy(update={"sent_s": sent_s})

    def _effects(self, tenant: str) -> list[Effect]:
        return [self._shown(row) for row in self._rows.values() if row.effect.tenant == tenant]

    def _of(self, tenant: str, key: str) -> _Row:
        row = self._rows.get(key)
        if row is None or row.effect.tenant != tenant:
            raise UnknownEffect(key)
        return row

    def _leave(self, key: str, token: str, state: EffectState, error: JsonObject, now: datetime) -> None:
        row = self._rows.get(key)
        if row is None or row.token != token or row.effect.state not in CHANGES[state] | {state}:
            raise not_yours(key, state)
        if row.effect.state != state:
            self._become(row, state, now, error=error)

    def _become(self, row: _Row, state: EffectState, now: datetime, **changes: object) -> None:
        """The row in another state; it is looked after in doubt, and until its settlement is told."""
        told = changes.get("told", True)
        look = None if state != "in_doubt" and told else self._time() + (pause_after(0) if state == "in_doubt" else 0.0)
        finished = now if state != "in_doubt" else None
        effect = row.effect.model_copy(update={"state": state, "finished": finished, **changes})
        self._rows[effect.key] = replace(row, effect=effect, lease=self._time(), look=look, looks=0)
