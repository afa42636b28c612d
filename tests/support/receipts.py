"""Runs with receipts for tests: drawn at random, stored as in the log, sealed and amended as the recorder does it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from infra.exports.writing import Exported, save_export
from runtime.fold import fold
from runtime.log import Raw, Stored
from runtime.merkle import leaf_hash
from runtime.proving import Line
from runtime.receipts import PURPOSE, Counted, count, endorsement_of, fact_of, receipt_hash, sealed
from runtime.sealing import run_key, seal
from runtime.signing import KeyPair
from schemas.envelope import Fact, encode
from schemas.events import EffectSettled, RunSealed
from schemas.ids import END_SLOT, RunId, settled_slot
from schemas.receipts import NO_HASH, Endorsement
from schemas.subjects import FactSubject
from tests.support.builders import NOW, TENANT, RunUnderTest
from tests.support.drawn_run import play


@dataclass
class Keys:
    """runtime.receipts.ReceiptKeys in memory: the first key, and those that came after it."""

    pairs: list[KeyPair] = field(default_factory=lambda: [pair("first")])
    chain: list[Endorsement] = field(default_factory=list)

    def signing(self) -> KeyPair:
        return self.pairs[-1]

    def trusted(self) -> dict[str, bytes]:
        return {each.id: each.public for each in self.pairs}

    def endorsements(self) -> tuple[Endorsement, ...]:
        return tuple(self.chain)

    def first(self) -> dict[str, bytes]:
        return {self.pairs[0].id: self.pairs[0].public}

    def rotate(self, name: str, since: datetime = NOW) -> None:
        new = pair(name)
        self.chain.append(endorsement_of(new, since, self.pairs[-1]))
        self.pairs.append(new)


def pair(name: str) -> KeyPair:
    return KeyPair(hashlib.sha256(name.encode()).digest(), PURPOSE)


@dataclass
class Told:
    """One run as it lies in the log. key: its own, if its content is sealed."""

    run: RunId
    raws: list[Raw] = field(default_factory=list)
    facts: list[Stored] = field(default_factory=list)
    receipts: list[RunSealed] = field(default_factory=list)
    key: bytes | None = None

    def add(self, fact: Fact) -> None:
        said, position = fact, len(self.raws) + 1
        if self.key is not None and fact.kind != "RunSealed":
            fact = replace(fact, header=fact.header.model_copy(update={"datakey": "key-of-ann"}))
            nonce = hashlib.sha256(fact.id.encode()).digest()[:12]
            said = seal(fact, self.key, nonce)  # type: ignore[assignment]  # it is stored so
        place = FactSubject(fact.run, fact.tenant, fact.role, fact.slot)
        self.raws.append(Raw(str(place), encode(said), position))
        self.facts.append(Stored(fact, position))

    def lines(self, first: int = 1) -> list[Line]:
        return [Line(number, raw.data) for number, raw in enumerate(self.raws, start=first)]

    def seal(self, keys: Keys, *, number: int | None = None, previous: str = NO_HASH) -> RunSealed | None:
        """The recorder seals it, or amends what it has sealed."""
        before = self.receipts[-1].receipt if self.receipts else None
        counted = count(self.run, self.raws, fold(self.run, self.facts).unanswered)
        assert counted is not None
        number, previous = number or len(self.receipts) + 1, previous or (receipt_hash(before) if before else NO_HASH)
        event = sealed(counted, before, number=number, previous=previous, keys=keys, now=NOW + timedelta(seconds=number))
        if event is not None:
            self.receipts.append(event)
            self.add(fact_of(event))
        return event


def stored(facts: Sequence[Stored], *, encrypted: bool = False) -> Told:
    """Facts of one run as the log holds them."""
    run = facts[0].fact.run
    told = Told(run, key=run_key(hashlib.sha256(b"ann").digest(), run) if encrypted else None)
    for each in facts:
        told.add(each.fact)
    return told


def drawn(seed: int, keys: Keys, *, encrypted: bool = False, late: int = 0) -> Told:
    """A drawn run that the recorder has sealed; `late` facts come after that, one amendment each."""
    run = play(seed)
    ended = next(at for at, each in enumerate(run.log, start=1) if each.fact.slot == END_SLOT)
    told = stored(run.log[:ended], encrypted=encrypted)
    assert told.seal(keys) is not None
    for number in range(late):
        told.add(late_fact(run, number))
        assert told.seal(keys) is not None
    return told


def late_fact(run: RunUnderTest, number: int) -> Fact:
    """Something that is found out after the end."""
    later = RunUnderTest(run.request.agent, key=run.request.key)
    call = f"{number:032x}"
    settled = EffectSettled(call=call, write_key="k", happened=True, by="tools")
    later.tell(settled, settled_slot(call), role="tools", tenant=TENANT)
    return later.log[-1].fact


def counted_as(run: RunId, size: int, tenant: str = TENANT) -> Counted:
    """A run that has ended after so many events, which nobody has seen."""
    hashes = tuple(leaf_hash(b"%s %d" % (run.encode(), number)) for number in range(size))
    return Counted(run, tenant, "completed", "4", hashes, (), size)


def save(told: Told, path: Path) -> Path:
    """A run as a file of `runs export`."""
    events = [raw.data for raw in told.raws]
    what = Exported(told.run, events, sealed=told.key is not None, key=told.key)
    save_export(path, what, NOW, replace=True)
    return path
