"""The effect ledger: who may cause an effect, whether it happened, and its receipt.

One entry a write key (schemas.tools.write_key; schemas.tools.repeated_key for each further round of the same effect).
committed -> done | failed | in_doubt; in_doubt -> done | failed; failed -> committed again, or done where the answer that
says so came late. Nothing leaves done.

A claim is held by one worker at a time: it has a token and a lease. Nothing is sent without `hold`, which renews the
lease and fails once another worker has taken the claim over; what was never held was never sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.tools import Before, Value, repeated_key, write_key

EffectState: TypeAlias = Literal["committed", "done", "failed", "in_doubt"]

GRACE_S = 60.0
"""How long after its lease a claim is left to its command, which may be delivered again, before it is looked after."""

FIRST_LOOK_S, LONGEST_PAUSE_S = 5.0, 3600.0
"""After how long an entry in doubt is looked after; the pauses double up to the second."""

ROUNDS = 10_000
RECEIPT_CHARACTERS = 500


class Intent(Value):
    """What is to be claimed: an effect, and for whom. base, round: of the key, see `round_of`."""

    key: str
    base: str
    round: int = 0
    tenant: str
    run: str
    conversation: str = ""
    user: str = ""
    command: str
    approval: str | None = None
    datakey: str | None = None
    lane: str
    tool: str
    arguments: JsonObject = Field(default_factory=dict)
    planned_state: str = ""


class Effect(Intent):
    """An entry. since: of its first claim, or of the one after it failed; sent_s: seconds since it may have been sent first,
    None for never. settled_by: who found out what became of it when nobody knew; told: whether the run's log says so.
    undone_by: the run that was begun to take it back.
    """

    state: EffectState
    since: datetime
    sent_s: float | None = None
    finished: datetime | None = None
    attempts: int = 1
    price: str | None = None
    currency: str | None = None
    receipt: JsonObject | None = None
    error: JsonObject | None = None
    settled_by: str | None = None
    note: str = ""
    told: bool = True
    undone_by: str | None = None


class Claimed(Value):
    """The effect is this command's to cause, now. again: it was claimed before and surely never sent.

    sending: it is written down as about to be sent.
    """

    again: bool = False
    sending: bool = False


class Done(Value):
    """The effect has happened; this is its receipt. by: the command that caused it."""

    receipt: JsonObject
    by: str


class InProgress(Value):
    """Somebody holds the claim (maybe for this very command), or nobody knows whether it happened (in_doubt)."""

    by: str
    since: datetime
    in_doubt: bool = False


class Mine(Value):
    """This command was about to send it and did not finish: ask the provider, never just try again. The claim is held anew.

    first_s, last_s: seconds since it may have been sent first and last.
    """

    since: datetime
    first_s: float = 0.0
    last_s: float = 0.0


Claim: TypeAlias = Claimed | Done | InProgress | Mine


class NotYours(MilepostError):
    """Somebody tells the ledger about an effect whose claim another one holds, or denies one that is done."""


class ForeignKey(MilepostError):
    """A write comes under a key that its own tenant, tool, arguments and planned state do not make."""


class UnknownEffect(MilepostError):
    """No entry of the tenant has this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"There is no effect {key}.", why="the ledger of this tenant has none", hint="milepost effects ls")


class Settled(MilepostError):
    """It is known already what became of the effect, and somebody says otherwise."""


class EffectFilter(Value):
    """Which entries; what is not said fits all. before: claimed earlier."""

    states: tuple[EffectState, ...] = ()
    tool: str | None = None
    run: str | None = None
    conversation: str | None = None
    before: datetime | None = None


class EffectLedger(Protocol):
    """Entries of effects. Of two who claim a key at once exactly one gets Claimed. Every call is idempotent.

    token: who claims, another one for each try. Leases run by the ledger's own clock; `now` is what is written down.
    """

    async def claim(self, intent: Intent, token: str, now: datetime, lease_s: float, *, sending: bool = False) -> Claim:
        """Ask for the right to cause the effect; it is held for lease_s seconds.

        sending: a fresh claim is also what `hold` is for, since nothing is looked at in between; `Claimed.sending` says so.
        """
        ...

    async def hold(
        self, key: str, tenant: str, token: str, lease_s: float, *, sending: bool,
        price: str | None = None, currency: str | None = None,
    ) -> bool:  # fmt: skip
        """Whether the claim is still this one's, renewed from now on.

        sending: it is about to be sent, or under way; durably written down before the answer, so that nobody just repeats it.
        """
        ...

    async def release(self, key: str, tenant: str, token: str) -> None:
        """Let the command take its claim up again at once; nothing if another one holds it."""
        ...

    async def finish(self, key: str, tenant: str, command: str, receipt: JsonObject, now: datetime) -> None:
        """It happened, whoever holds the claim by now; the first receipt stays. Raises NotYours."""
        ...

    async def fail(self, key: str, tenant: str, token: str, error: JsonObject, now: datetime) -> None:
        """It certainly did not happen; the key may be claimed again. Raises NotYours."""
        ...

    async def doubt(self, key: str, tenant: str, token: str, error: JsonObject, now: datetime) -> None:
        """Nobody knows whether it happened. Raises NotYours."""
        ...

    async def settle(
        self, key: str, tenant: str, now: datetime, *, happened: bool, by: str, note: str = "",
        receipt: JsonObject | None = None, token: str = "",
    ) -> Effect:  # fmt: skip
        """What became of an entry in doubt, or of a claim that nobody (or this token) holds, is known now.

        Raises UnknownEffect, Settled where something else is known, NotYours while somebody holds the claim.
        """
        ...

    async def look_after(self, lane: str, token: str, limit: int, lease_s: float) -> list[Effect]:
        """Entries that wait for somebody: in doubt, claimed by a worker that died for good, or settled and not told.

        Of all tenants. They are this one's for lease_s seconds; each comes again later, with growing pauses.
        """
        ...

    async def take(self, key: str, tenant: str, token: str, lease_s: float) -> Effect:
        """One such entry, now. Raises UnknownEffect, and NotYours where nothing is in doubt or somebody holds it."""
        ...

    async def told(self, key: str, tenant: str) -> None:
        """The run's log says what became of it, or never will."""
        ...

    async def last_done(self, tenant: str, base: str) -> Effect | None:
        """The last round of an effect that has happened."""
        ...

    async def show(self, tenant: str, key: str) -> Effect | None:
        """One entry; a key may be shortened to its first eight or more digits. Raises UnknownEffect for several."""
        ...

    async def list_effects(self, tenant: str, which: EffectFilter, limit: int) -> list[Effect]:
        """Entries, the last claimed first."""
        ...

    async def undone(self, key: str, tenant: str, run: str) -> None:
        """A run was begun to take it back."""
        ...

    async def forget(self, tenant: str, runs: Sequence[str]) -> int:
        """Take arguments, receipts and errors out of the entries of these runs; keys and states stay, so that none repeats.

        How many were changed.
        """
        ...


FORGOTTEN: JsonObject = {"text": "It was done; what it said was erased on request."}
"""The receipt of an effect whose person was forgotten, in the form of a tool's result."""

CHANGES: dict[EffectState, frozenset[EffectState]] = {
    "done": frozenset({"committed", "in_doubt", "failed"}),
    "failed": frozenset({"committed", "in_doubt"}),
    "in_doubt": frozenset({"committed"}),
}
"""From which states an entry may come into each state."""


def not_yours(key: str, state: EffectState) -> NotYours:
    """The error for a change that the entry does not allow."""
    return NotYours(f"Effect {key} cannot become {state} now.", why="it is done, or somebody else holds its claim")


def not_open(key: str) -> NotYours:
    """The error for an entry that there is nothing to find out about, or that somebody else is busy with."""
    return NotYours(
        f"There is nothing to find out about effect {key} now.", why="it is known what became of it, or somebody is at it",
        hint=f"milepost effects show {key[:12]}",
    )  # fmt: skip


def settled_otherwise(effect: Effect) -> Settled:
    """The error for a settlement that contradicts what is known."""
    return Settled(
        f"It is known already that effect {effect.key} {'happened' if effect.state == 'done' else 'did not happen'}.",
        why=f"{effect.settled_by} found out" if effect.settled_by else "its tool said so",
        hint=f"milepost effects show {effect.key[:12]}",
    )


def round_of(tenant: str, tool: str, arguments: JsonObject, state: str, key: str) -> tuple[str, int]:
    """The base of a key and its round: how often the same effect had happened when it was planned. Raises ForeignKey."""
    base = write_key(tenant, tool, arguments, state)
    for times in range(ROUNDS):
        if repeated_key(base, times) == key:
            return base, times
    raise ForeignKey(f"The write key {key[:12]} is not that of this {tool}.", why="what it would change is another effect")


def before_of(effect: Effect) -> Before:
    """What a person is told about an effect that is wanted once more."""
    at = effect.finished or effect.since
    return Before(
        run=effect.run, conversation=effect.conversation, at=at.isoformat(),
        text=str((effect.receipt or {}).get("text", ""))[:RECEIPT_CHARACTERS], times=effect.round + 1,
    )  # fmt: skip


def pause_after(looks: int) -> float:
    """Seconds until an entry is looked after once more."""
    return float(min(LONGEST_PAUSE_S, FIRST_LOOK_S * 2 ** min(looks, 20)))
