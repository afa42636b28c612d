"""Exported runs are tampered with at random, and every tampering has to be found; untouched ones have to be proved.

Whoever tampers here knows the format: after changing lines he puts number and checksum right again, signs with a key of his
own, or claims to have the recorder's. Run by hand for many: python -m tests.drill.tamper --count 10000.
Not counted as tampering is what changes nothing that is signed: the position of a receipt's own line among the facts that come
after what it counts, and a run cut back to where an earlier receipt of it ended, which is what an earlier export holds.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from infra.exports.format import SUM
from infra.exports.writing import Exported, save_export
from infra.verifying import verify_file
from runtime.receipts import count, fact_of, sealed
from schemas.envelope import decode_fact, encode
from schemas.errors import MilepostError
from schemas.events import RunSealed
from tests.support.builders import NOW, RunUnderTest
from tests.support.receipts import Keys, Told, drawn, late_fact, pair

POOL = 48


@dataclass(frozen=True)
class Sample:
    """One exported run: its lines of events, and what stands before and after them."""

    told: Told
    head: bytes
    events: list[bytes]
    rest: list[bytes]

    @property
    def data(self) -> bytes:
        return whole(self.head, self.events, self.rest)


def whole(head: bytes, events: Iterable[bytes], rest: Iterable[bytes]) -> bytes:
    """A file of these lines, with number and checksum as they should be."""
    lines = [*events]
    said = orjson.loads(head)
    said["events"] = len(lines)
    before = b"".join(line + b"\n" for line in (orjson.dumps(said), *lines, *rest))
    return before + SUM % hashlib.sha256(before).hexdigest().encode()


def samples(folder: Path, keys: Keys, seed: int, size: int = POOL) -> list[Sample]:
    """Runs of every kind: in the clear and sealed, amended and not, by the first key and a later one, with schemas or not."""
    found = []
    for number in range(size):
        told = drawn(seed + number, keys, encrypted=number % 2 == 0, late=number // 2 % 3)
        events = [raw.data for raw in told.raws]
        path = folder / "sample.jsonl"
        schemas = number % 8 == 7
        save_export(path, Exported(told.run, events, told.key is not None, told.key, schemas=schemas), NOW, replace=True)
        head, *lines = path.read_bytes().splitlines()
        found.append(Sample(told, head, events, lines[len(events) : -1]))
        if number == size // 2:
            keys.rotate("second")
    return found


# --- tampering ------------------------------------------------------------------------------------


def flip(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """One bit, anywhere."""
    return flipped(draw, sample.data)


def flip_in_event(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """One bit of an event or a receipt, the checksum put right."""
    lines = [*sample.events]
    at = draw.randrange(len(lines))
    lines[at] = flipped(draw, lines[at])
    return whole(sample.head, lines, sample.rest)


def edit(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """One attribute of an event said otherwise, in well-formed JSON."""
    lines = [*sample.events]
    at = draw.randrange(len(lines))
    said = orjson.loads(lines[at])
    name = draw.choice(sorted(said))
    other = {"new": 1} if isinstance(said[name], dict) else f"{said[name]}x"
    lines[at] = orjson.dumps({**said, name: other})
    return whole(sample.head, lines, sample.rest)


def spaced(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """The same event in other bytes."""
    lines = [*sample.events]
    at = draw.randrange(len(lines))
    lines[at] = json.dumps(orjson.loads(lines[at]), ensure_ascii=False).encode()
    return whole(sample.head, lines, sample.rest)


def drop(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """Lines are gone, one or a stretch."""
    at = draw.randrange(len(sample.events))
    until = at + draw.choice([1, 1, 1, 2, 3])
    return whole(sample.head, sample.events[:at] + sample.events[until:], sample.rest)


def drop_as_it_is(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """Lines are gone, and nothing else was put right."""
    lines = sample.data.splitlines(keepends=True)
    del lines[draw.randrange(len(lines))]
    return b"".join(lines)


def swap(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """Two lines have changed places."""
    lines = [*sample.events]
    one, other = draw.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return whole(sample.head, lines, sample.rest)


def repeat(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """A line stands there twice."""
    lines = [*sample.events]
    lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
    return whole(sample.head, lines, sample.rest)


def insert(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """A fact that was never stated."""
    run = RunUnderTest(key="x")
    run.id = sample.told.run
    fact = late_fact(run, draw.randrange(10**6, 10**9))
    lines = [*sample.events]
    said = {**orjson.loads(encode(fact)), "run": sample.told.run}
    lines.insert(draw.randrange(len(lines) + 1), orjson.dumps(said))
    return whole(sample.head, lines, sample.rest)


def truncate(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """The file ends early."""
    return sample.data[: draw.randrange(1, len(sample.data))]


def transplant(draw: random.Random, sample: Sample, pool: list[Sample]) -> bytes:
    """An event of another run stands there, in its place or in addition."""
    other = draw.choice([each for each in pool if each is not sample])
    lines, at = [*sample.events], draw.randrange(len(sample.events))
    lines[at : at + draw.choice([0, 1])] = [draw.choice(other.events)]
    return whole(sample.head, lines, sample.rest)


def sign_again(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """An event is changed, and all receipts are made anew with another key, which may claim to be the recorder's."""
    lines, claimed = [*sample.events], draw.random() < 0.5
    plain = [at for at, line in enumerate(lines) if b'"io.milepost.RunSealed.v1"' not in line]
    at = draw.choice(plain)
    lines[at] = lines[at].replace(b'"time":"2026', b'"time":"2025', 1)
    keys = Keys([pair("stranger")])
    told = Told(sample.told.run)
    made: list[RunSealed] = []
    for raw, line in zip(sample.told.raws, lines, strict=True):
        if b'"io.milepost.RunSealed.v1"' not in line:
            told.raws.append(type(raw)(raw.subject, line, raw.position))
            continue
        old = RunSealed.model_validate(orjson.loads(line)["data"])
        counted = count(told.run, told.raws, {each.id: each.kind for each in old.receipt.unanswered})  # type: ignore[misc]
        before = made[-1].receipt if made else None
        assert counted is not None
        new = sealed(
            counted, before, number=old.receipt.number, previous=old.receipt.previous, keys=keys, now=old.receipt.sealed
        )
        assert new is not None
        if claimed:
            new = new.model_copy(update={"receipt": new.receipt.model_copy(update={"key": old.receipt.key})})
        made.append(new)
        told.raws.append(type(raw)(raw.subject, encode(fact_of(new)), raw.position))
    return whole(sample.head, [raw.data for raw in told.raws], sample.rest)


def split_off(draw: random.Random, sample: Sample, _: list[Sample]) -> bytes:
    """Receipts are taken out of a run, or all that came after one of them without the rest being put right."""
    seals = [at for at, line in enumerate(sample.events) if b'"io.milepost.RunSealed.v1"' in line]
    if draw.random() < 0.5:
        gone = set(draw.sample(seals, draw.randint(1, len(seals))))
        return whole(sample.head, [line for at, line in enumerate(sample.events) if at not in gone], sample.rest)
    until = draw.choice(seals) + 1
    lines = sample.data.splitlines(keepends=True)
    if until == len(sample.events):
        until -= 1
    return b"".join([*lines[: until + 1], *lines[len(sample.events) + 1 :]])


Tampering = Callable[[random.Random, Sample, list[Sample]], bytes]
TAMPERINGS: tuple[Tampering, ...] = (
    flip, flip_in_event, edit, spaced, drop, drop_as_it_is, swap, repeat, insert, truncate, transplant, sign_again, split_off,
)  # fmt: skip


def flipped(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def changes_nothing(sample: Sample, data: bytes) -> bool:
    """Whether all that is signed is still there and nothing else, or was so at an earlier time."""
    if data == sample.data:
        return True
    _, *lines = data.split(b"\n")
    lines = lines[: -(2 + len(sample.rest))]
    try:
        facts = [decode_fact(line) for line in lines]
    except MilepostError:
        return False
    now = [line for line, fact in zip(lines, facts, strict=True) if not isinstance(fact.body, RunSealed)]
    then = [raw.data for raw in sample.told.raws if ".recorder.seal" not in raw.subject]
    sizes = [fact.body.receipt.size for fact in facts if isinstance(fact.body, RunSealed)]
    parts = [fact.body.receipt.part for fact in facts if isinstance(fact.body, RunSealed)]
    genuine = {raw.data for raw in sample.told.raws}
    whole_file = data == whole(sample.head, lines, sample.rest)
    if not whole_file or not sizes or now != then[: len(now)] or sorted(parts) != list(range(1, len(parts) + 1)):
        return False
    if not genuine.issuperset(lines) or max(sizes) != len(now):
        return False
    seen = 0
    for fact in facts:
        if isinstance(fact.body, RunSealed):
            if seen < fact.body.receipt.size:
                return False
        else:
            seen += 1
    return True


# --- what comes of it -----------------------------------------------------------------------------


@dataclass
class Outcome:
    """How many were tried and found of each kind; what was missed, and what was misreported."""

    tried: Counter[str]
    verdicts: Counter[str]
    missed: list[str]
    misreported: list[str]

    @property
    def good(self) -> bool:
        return not self.missed and not self.misreported


def run(count: int, untouched: int, seed: int, folder: Path) -> Outcome:
    """Tamper so often, and leave alone so often."""
    keys, draw = Keys(), random.Random(seed)
    pool, path = samples(folder, keys, seed), folder / "tampered.jsonl"
    outcome = Outcome(Counter(), Counter(), [], [])
    while outcome.tried.total() < count:
        sample, how = draw.choice(pool), TAMPERINGS[outcome.tried.total() % len(TAMPERINGS)]
        data = how(draw, sample, pool)
        if changes_nothing(sample, data):
            continue
        path.write_bytes(data)
        verdict = verdict_of(path, keys)
        outcome.tried[how.__name__] += 1
        outcome.verdicts[verdict] += 1
        if verdict == "proved":
            outcome.missed.append(f"{how.__name__} of {sample.told.run}")
            (folder / f"missed-{len(outcome.missed)}.jsonl").write_bytes(data)
    for number in range(untouched):
        path.write_bytes(pool[number % len(pool)].data if number < len(pool) else fresh(seed + number, keys))
        verdict = verdict_of(path, keys)
        if verdict != "proved":
            outcome.misreported.append(f"{number}: {verdict}")
    return outcome


def fresh(seed: int, keys: Keys) -> bytes:
    """Another run that nobody touched."""
    told = drawn(seed, keys, encrypted=seed % 2 == 0, late=seed % 3)
    head = {"format": "milepost-run", "version": 3, "run": told.run, "created": NOW, "events": 1, "payloads": 0}
    key = {"key": base64.b64encode(told.key).decode()} if told.key else {}
    return whole(orjson.dumps({**head, **key}), [raw.data for raw in told.raws], [b'{"schemas":{}}'])


def verdict_of(path: Path, keys: Keys) -> str:
    """proved, unproved, tampered; refused: it is no export any more."""
    try:
        return verify_file(path, keys.first()).proof.verdict
    except MilepostError:
        return "refused"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--untouched", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(asked.count, asked.untouched, asked.seed, Path(folder))
    said = {
        "tampered": outcome.tried.total(), "missed": outcome.missed[:20], "untouched": asked.untouched,
        "misreported": outcome.misreported[:20], "verdicts": outcome.verdicts, "tried": outcome.tried,
        "seed": asked.seed, "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip
    print(json.dumps(said))
    sys.exit(0 if outcome.good else 1)


if __name__ == "__main__":
    main()
