"""Receipts: what a run's stored messages come to in a tree, what the recorder says of them, and its signature.

Counted are all messages under a run's subjects in the log's order, except the recorder's own RunSealed; which ones those are
is told by their slots. Everything here is made from the messages' bytes and places, so that it holds after their content was
erased. See docs/receipts.md.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import orjson

from runtime.log import Raw
from runtime.merkle import leaf_hash, level_of, root_of
from runtime.signing import KeyPair, public_id
from schemas.canonical import canonical
from schemas.commands import EndRun
from schemas.envelope import TYPE_PREFIX, Fact, new_fact, role_of, source_of
from schemas.errors import MilepostError
from schemas.events import RunSealed
from schemas.ids import END_SLOT, CommandId, EventId, RunId, event_id, seal_slot
from schemas.receipts import NO_HASH, Checkpoint, Endorsement, Receipt, Unanswered
from schemas.tools import Value

PURPOSE = "receipt key"
NODES = 256
SOURCE = source_of("recorder", "receipts")
"""Not of one process: whoever publishes a receipt writes the same bytes."""

_RECEIPT, _CHECKPOINT, _ENDORSEMENT = b"milepost receipt\n", b"milepost checkpoint\n", b"milepost endorsement\n"
_END = f".{EndRun.role}.{END_SLOT}"
_SEAL = re.compile(r"seal(-([2-9]|[1-9][0-9]{1,8}))?")
_OUTCOMES = {"RunCompleted": "completed", "RunFailed": "failed", "RunCancelled": "cancelled"}


class NotTheSame(MilepostError):
    """The log holds other messages than those that were sealed: it was changed since."""


class NotAnEnd(MilepostError):
    """In the slot of a run's end stands something else."""


class SignedCheckpoint(Value):
    """A checkpoint and its signature, base64."""

    checkpoint: Checkpoint
    signature: str


@dataclass(frozen=True, slots=True)
class Counted:
    """A run that has ended, as its messages tell it. hashes: of its leaves; position: of the last message that is counted."""

    run: RunId
    tenant: str
    outcome: str
    decider: str
    hashes: tuple[bytes, ...]
    unanswered: tuple[Unanswered, ...]
    position: int


class ReceiptKeys(Protocol):
    """The recorder's keys of the moment."""

    def signing(self) -> KeyPair:
        """The one that signs now."""
        ...

    def trusted(self) -> Mapping[str, bytes]:
        """The public halves of that one and of all before it, by id."""
        ...

    def endorsements(self) -> tuple[Endorsement, ...]:
        """What leads from the first key to the one that signs now, in order."""
        ...


# --- counting -------------------------------------------------------------------------------------


def is_seal(role: str, slot: str) -> bool:
    """Whether the recorder's receipts stand there, which are not counted."""
    return role == "recorder" and _SEAL.fullmatch(slot) is not None


def leaf_of(n: int, id: str, data: bytes) -> bytes:
    """Canonical JSON (RFC 8785) of the schemas.receipts.Leaf of a message as it is stored."""
    return b'{"bytes":%d,"id":"%s","n":%d,"sha256":"%s"}' % (
        len(data), id.encode(), n, hashlib.sha256(data).hexdigest().encode(),
    )  # fmt: skip


def count(run: RunId, raws: Sequence[Raw], unanswered: Mapping[CommandId, str], *, tenant: str | None = None) -> Counted | None:
    """What a run's messages come to; None if it has not ended.

    unanswered: kinds by command, as its fold has them. tenant: whose run it is; None: of whoever has stated an end first.
    """
    ends = [(raw.subject.split(".")[5:], raw) for raw in raws if raw.subject.endswith(_END)]
    found = next(((place[0], raw) for place, raw in ends if len(place) == 3 and tenant in (None, place[0])), None)
    if found is None:
        return None
    tenant, ended = found
    outcome, decider = told_by(ended.data)
    hashes, answered, position = list[bytes](), set[str](), 0
    for raw in raws:
        place = raw.subject.split(".")[5:]
        if len(place) == 3:
            owner, role, slot = place
            if is_seal(role, slot):
                continue
            id = event_id(run, owner, role, slot)
            answered.add(slot)
        else:
            id = EventId("")  # anybody may say anything under a run's subjects; it is counted, and has no event's name
        hashes.append(leaf_hash(leaf_of(len(hashes) + 1, id, raw.data)))
        position = raw.position
    left = tuple(Unanswered(id=id, kind=kind) for id, kind in unanswered.items() if id not in answered)
    return Counted(run, tenant, outcome, decider, tuple(hashes), left, position)


def told_by(ending: bytes) -> tuple[str, str]:
    """Outcome and decider as the attributes of a run's last event tell them. Raises NotAnEnd."""
    try:
        header = orjson.loads(ending)
        kind = header["type"].removeprefix(TYPE_PREFIX).partition(".")[0]
        return _OUTCOMES[kind], str(header["decider"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAnEnd("What stands where the run ends tells of no end.", why=repr(error)[:200]) from error


# --- signing --------------------------------------------------------------------------------------


def sealed(
    counted: Counted, before: Receipt | None, *, number: int, previous: str, keys: ReceiptKeys, now: datetime
) -> RunSealed | None:
    """The next receipt of a run, signed; None if the one before it counts as much already.

    before: its last one; number, previous: the place in the tenant's chain. Raises NotTheSame.
    """
    if before is not None:
        if before.size >= len(counted.hashes):
            return None
        if root_of(counted.hashes[: before.size]).hex() != before.root:
            raise NotTheSame(
                f"The first {before.size} events of run {counted.run} are not those that were sealed.",
                why=f"receipt {before.number} has another root", hint=f"milepost verify {counted.run}",
            )  # fmt: skip
    key = keys.signing()
    receipt = Receipt.model_validate({
        "tenant": counted.tenant, "run": counted.run, "part": before.part + 1 if before else 1, "outcome": counted.outcome,
        "decider": counted.decider, "size": len(counted.hashes), "root": root_of(counted.hashes).hex(),
        "unanswered": counted.unanswered, "amends": receipt_hash(before) if before else NO_HASH, "number": number,
        "previous": previous, "sealed": now, "key": key.id,
    })  # fmt: skip
    return RunSealed(
        receipt=receipt, signature=_text(key.signature(said_of(receipt))), nodes=nodes_of(counted.hashes),
        endorsements=keys.endorsements(),
    )  # fmt: skip


def said_of(receipt: Receipt) -> bytes:
    """What a receipt's signature is over."""
    return _RECEIPT + canonical(receipt.model_dump(mode="json"))


def receipt_hash(receipt: Receipt) -> str:
    """What names a receipt in the ones that come after it: SHA-256 over its canonical JSON, hex."""
    return hashlib.sha256(canonical(receipt.model_dump(mode="json"))).hexdigest()


def nodes_of(hashes: Sequence[bytes]) -> str:
    """The nodes that a fact of a receipt carries."""
    return _text(b"".join(level_of(hashes, NODES)[1]))


def fact_of(event: RunSealed) -> Fact:
    """The fact that states a receipt; nothing in it is left to choice."""
    receipt = event.receipt
    run = RunId(receipt.run)
    return new_fact(
        event, run=run, tenant=receipt.tenant, slot=seal_slot(receipt.part), source=SOURCE, time=receipt.sealed,
        causes=(event_id(run, receipt.tenant, EndRun.role, END_SLOT),), decider=receipt.decider,
    )  # fmt: skip


def checkpoint_of(tenant: str, number: int, head: str, *, key: KeyPair, now: datetime) -> SignedCheckpoint:
    """How far a chain has come, signed."""
    checkpoint = Checkpoint(tenant=tenant, number=number, head=head, at=now, key=key.id)
    return SignedCheckpoint(checkpoint=checkpoint, signature=_text(key.signature(said_of_checkpoint(checkpoint))))


def said_of_checkpoint(checkpoint: Checkpoint) -> bytes:
    """What a checkpoint's signature is over."""
    return _CHECKPOINT + canonical(checkpoint.model_dump(mode="json"))


def endorsement_of(new: KeyPair, since: datetime, by: KeyPair) -> Endorsement:
    """What an old key says of the one that follows it."""
    said = Endorsement(key=new.id, public=_text(new.public), since=since, by=by.id, signature="")
    return said.model_copy(update={"signature": _text(by.signature(said_of_endorsement(said)))})


def said_of_endorsement(endorsement: Endorsement) -> bytes:
    """What an endorsement's signature is over."""
    return _ENDORSEMENT + canonical(endorsement.model_dump(mode="json", exclude={"signature"}))


def key_id(public: bytes) -> str:
    """The name of one of the recorder's public keys."""
    return public_id(PURPOSE, public)


def place_of(header: Mapping[str, object]) -> tuple[str, str, str, str]:
    """Run, tenant, role and slot as a message's own attributes tell them. Raises ProtocolError, KeyError."""
    return str(header["run"]), str(header["tenant"]), role_of(str(header["source"])), str(header["subject"])


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
