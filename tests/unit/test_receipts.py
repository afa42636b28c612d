"""What a receipt is made of, and what verifying finds when something is not as it was signed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import proving
from runtime.fold import fold
from runtime.log import Raw, Stored
from runtime.merkle import leaf_hash, level_of, root_of
from runtime.proving import Finding, Line, Proof, check_chain, check_checkpoint, check_content, prove
from runtime.receipts import (
    NODES,
    Counted,
    NotAnEnd,
    NotTheSame,
    SignedCheckpoint,
    checkpoint_of,
    count,
    fact_of,
    is_seal,
    leaf_of,
    receipt_hash,
    sealed,
)
from schemas.canonical import canonical, digest
from schemas.envelope import decode_fact, encode
from schemas.events import RunSealed
from schemas.ids import event_id, seal_slot
from schemas.receipts import Leaf, Receipt, Unanswered
from services.recorder.memory_receipts import MemoryReceiptStore
from tests.support.builders import NOW, TENANT, run_of
from tests.support.receipts import Keys, Told, counted_as, drawn, pair


def rfc_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word."""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < n:
        k *= 2
    return hashlib.sha256(b"\x01" + rfc_root(leaves[:k]) + rfc_root(leaves[k:])).digest()


# --- the tree -------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_root_is_that_of_the_rfc(leaves: list[bytes]) -> None:
    assert root_of([leaf_hash(leaf) for leaf in leaves]) == rfc_root(leaves)


def test_known_roots() -> None:
    """From the test vectors of certificate transparency: the tree of no leaf, and that of one empty leaf."""
    assert root_of([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root_of([leaf_hash(b"")]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


@given(st.integers(1, 200), st.integers(1, 16))
def test_a_level_has_the_same_root_and_each_node_that_of_its_leaves(n: int, most: int) -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(n)]
    covers, nodes = level_of(leaves, most)
    assert len(nodes) <= most and root_of(nodes) == root_of(leaves)
    assert list(nodes) == [root_of(leaves[at : at + covers]) for at in range(0, n, covers)]


@given(st.integers(1, 10**6), st.binary(max_size=50))
def test_the_leaf_is_canonical_json(n: int, data: bytes) -> None:
    id = event_id(run_of(), TENANT, "client", str(n))
    leaf = Leaf(n=n, id=id, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    assert leaf_of(n, id, data) == canonical(leaf.model_dump(mode="json"))


@given(st.text("abc-", min_size=1, max_size=9), st.text("abc-", min_size=1, max_size=9))
def test_an_id_is_the_digest_of_its_whole_place(role: str, slot: str) -> None:
    assert event_id(run_of(), TENANT, role, slot) == digest("event", run_of(), TENANT, role, slot)


def test_which_places_are_receipts() -> None:
    assert all(is_seal("recorder", seal_slot(part)) for part in (1, 2, 10, 99))
    others = ("seal-1", "seal-0", "seal-02", "seal-", "seals", "seal-2\n", "f" * 32)
    assert not any(is_seal("recorder", slot) for slot in others) and not is_seal("client", "seal")


# --- receipts -------------------------------------------------------------------------------------


def test_a_receipt_says_what_the_run_came_to() -> None:
    told = drawn(3, Keys())
    receipt = told.receipts[0].receipt
    assert (receipt.run, receipt.tenant, receipt.part, receipt.amends, receipt.size) == (
        told.run,
        TENANT,
        1,
        "",
        len(told.raws) - 1,
    )
    assert receipt.outcome == fold(told.run, told.facts).state.outcome


def test_the_same_fact_is_written_whoever_publishes_it() -> None:
    event = drawn(3, Keys()).receipts[0]
    again = RunSealed.model_validate(event.model_dump(mode="json"))
    assert encode(fact_of(again)) == encode(fact_of(event))


def test_a_run_that_has_not_ended_has_no_receipt_and_an_end_that_is_none_is_told() -> None:
    told = drawn(3, Keys())
    ends = next(at for at, raw in enumerate(told.raws) if raw.subject.endswith(".conductor.end"))
    assert count(told.run, told.raws[:ends], {}) is None
    told.raws[ends] = replace(told.raws[ends], data=b"junk")
    with pytest.raises(NotAnEnd):
        count(told.run, told.raws, {})


def test_what_was_sealed_before_must_be_the_beginning() -> None:
    keys = Keys()
    first = sealed(counted_as(run_of(), 3), None, number=1, previous="", keys=keys, now=NOW)
    assert first is not None
    longer = counted_as(run_of(), 5)
    other = replace(longer, hashes=(longer.hashes[1], longer.hashes[0], *longer.hashes[2:]))
    with pytest.raises(NotTheSame, match="first 3 events"):
        sealed(other, first.receipt, number=2, previous="", keys=keys, now=NOW)


# --- verifying ------------------------------------------------------------------------------------


def both(told: Told, keys: Keys) -> Proof:
    """Verified as a file's lines would be, and as the log's messages."""
    lines = prove(told.lines(), keys.first())
    log = prove([Line(raw.position, raw.data, raw.subject) for raw in told.raws], keys.first())
    assert (lines.verdict, lines.receipts) == (log.verdict, log.receipts)
    return lines


def test_what_is_as_it_was_signed_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(line: Line) -> proving.Placed:
        raise AssertionError(line)

    keys = Keys()
    told = drawn(3, keys, late=1)
    monkeypatch.setattr(proving, "_placed", parsed)
    assert both(told, keys).verdict == "proved"


def test_a_beginning_that_the_rest_takes_back_is_no_other_proof() -> None:
    """The first reading takes a place from how the bytes begin; a key that comes again changes what the bytes hash to."""
    keys = Keys()
    told = drawn(3, keys)
    twice = told.raws[1].data[:-1] + b',"id":"' + b"0" * 32 + b'"}'
    told.raws[1] = replace(told.raws[1], data=twice)
    proof = both(told, keys)
    assert proof.verdict == "tampered" and "misplaced" in {each.kind for each in proof.findings}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.integers(0, 3))
def test_what_nobody_touched_is_proved(seed: int, encrypted: bool, late: int) -> None:
    keys = Keys()
    told = drawn(seed, keys, encrypted=encrypted, late=late)
    proof = both(told, keys)
    assert (proof.verdict, proof.findings) == ("proved", ())
    assert [receipt.part for receipt in proof.receipts] == list(range(1, late + 2))
    assert list(check_content(told.run, told.facts, range(len(told.facts)), proof.receipts)) == []


def kinds(told: Told, keys: Keys) -> list[str]:
    return [each.kind for each in prove(told.lines(), keys.first()).findings]


Change = Callable[[Told], None]


def edit(told: Told) -> None:
    told.raws[4] = replace(told.raws[4], data=told.raws[4].data.replace(b'"time":"2026', b'"time":"2025'))


def test_an_edited_event_is_named() -> None:
    keys, told = Keys(), drawn(3, Keys())
    edit(told)
    (found,) = prove(told.lines(first=2), keys.first()).findings
    assert found == Finding("edited", "5", line=6, event=5, receipt=1)


def test_two_edited_events_are_both_named() -> None:
    keys, told = Keys(), drawn(3, Keys())
    for at in (1, 6):
        told.raws[at] = replace(told.raws[at], data=told.raws[at].data.replace(b"milepost", b"milep0st", 1))
    found = prove(told.lines(), keys.first()).findings
    assert [(each.kind, each.event) for each in found if each.kind == "edited"] == [("edited", 2), ("edited", 7)]


def drop(told: Told) -> None:
    del told.raws[3]


def swap(told: Told) -> None:
    told.raws[3], told.raws[5] = told.raws[5], told.raws[3]


def insert(told: Told) -> None:
    told.raws.insert(3, replace(told.raws[2]))


def cut(told: Told) -> None:
    del told.raws[-3:-1]


def no_end(told: Told) -> None:
    del told.raws[-2]


def bare(told: Told) -> None:
    del told.raws[-1]


def junk(told: Told) -> None:
    told.raws[2] = replace(told.raws[2], data=b"[1, 2")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (drop, ["missing", "shifted"]), (swap, ["edited", "edited"]), (insert, ["repeated", "shifted"]),
        (cut, ["missing", "outcome"]), (no_end, ["missing", "outcome"]), (bare, ["unsealed"]), (junk, ["malformed", "edited"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(change: Change, found: list[str]) -> None:
    told = drawn(3, Keys())
    change(told)
    assert [kind for kind in kinds(told, Keys()) if kind != "later"] == found


def test_where_something_was_taken_out_is_named() -> None:
    told = drawn(3, Keys())
    drop(told)
    found = {each.kind: each for each in prove(told.lines(first=2), Keys().first()).findings}
    assert found["missing"].detail == f"{len(told.raws) - 1}/{len(told.raws)}"
    assert (found["shifted"].event, found["shifted"].line) == (4, 5)


def test_an_event_of_another_run_is_foreign() -> None:
    told, other = drawn(3, Keys()), drawn(4, Keys())
    told.raws[2] = other.raws[2]
    assert kinds(told, Keys())[0] == "foreign"


def test_an_id_that_is_not_of_its_place_is_told() -> None:
    told = drawn(3, Keys())
    old = prove(told.lines(), Keys().first())
    id = event_id(told.run, TENANT, "client", "request")
    told.raws[0] = replace(told.raws[0], data=told.raws[0].data.replace(id.encode(), b"f" * 32, 1))
    assert old.verdict == "proved" and kinds(told, Keys()) == ["misplaced", "edited"]


def test_a_receipt_in_the_clear_is_what_the_recorder_writes_to_the_last_byte() -> None:
    told = drawn(3, Keys(), late=1)
    for old, new in ((b'"origin":"system"', b'"origin":"user"'), (b"/receipts", b"/receiptz"), (b'"kind"', b'"more":1,"kind"')):
        changed = Told(told.run, [*told.raws])
        last = changed.raws[-1]
        assert old in last.data
        changed.raws[-1] = Raw(last.subject, last.data.replace(old, new), last.position)
        assert "seal" in kinds(changed, Keys())


def test_a_changed_receipt_is_not_genuine() -> None:
    keys, told = Keys(), drawn(3, Keys())
    event = told.receipts[0]
    forged = event.model_copy(update={"receipt": event.receipt.model_copy(update={"sealed": NOW + timedelta(days=1)})})
    told.raws[-1] = replace(told.raws[-1], data=encode(fact_of(forged)))
    assert kinds(told, keys) == ["signature"]


def test_nodes_that_were_changed_are_told_and_wrong_ones_accuse_nobody() -> None:
    told = drawn(3, Keys())
    event = told.receipts[0]
    nodes = bytearray(base64.b64decode(event.nodes))
    nodes[40] ^= 1
    forged = event.model_copy(update={"nodes": base64.b64encode(nodes).decode()})
    told.raws[-1] = replace(told.raws[-1], data=encode(fact_of(forged)))
    assert kinds(told, Keys()) == ["seal"]
    edit(told)
    assert kinds(told, Keys()) == ["root"]


def test_long_runs_are_told_to_the_part_that_differs() -> None:
    told = drawn(3, Keys())
    hashes = [leaf_hash(b"%d" % number) for number in range(NODES * 4 + 1)]
    event = sealed(replace(counted_as(told.run, 1), hashes=tuple(hashes)), None, number=1, previous="", keys=Keys(), now=NOW)
    assert event is not None and len(base64.b64decode(event.nodes)) == 32 * (NODES // 2 + 1)


def test_amendments_follow_one_another() -> None:
    keys = Keys()
    told = drawn(3, keys, late=2)
    assert kinds(told, keys) == []
    seals = [at for at, raw in enumerate(told.raws) if raw.subject.endswith((".seal", ".seal-2", ".seal-3"))]
    for left_out, found in ((0, ["part"]), (1, ["part"]), (2, ["later"])):
        less = Told(told.run, [raw for at, raw in enumerate(told.raws) if at != seals[left_out]])
        assert kinds(less, keys) == found
    early = Told(told.run, [told.raws[seals[0]], *(raw for at, raw in enumerate(told.raws) if at != seals[0])])
    assert kinds(early, keys) == ["seal"]


def test_events_after_the_last_receipt_are_not_proved() -> None:
    told = drawn(3, Keys(), late=1)
    less = Told(told.run, told.raws[:-1])
    (found,) = prove(less.lines(), Keys().first()).findings
    assert (found.kind, found.detail, found.event, found.wrong) == ("later", "1", len(told.raws) - 2, False)


def test_signed_with_another_key_it_is_unproved() -> None:
    told = drawn(3, Keys([pair("stranger")]))
    proof = prove(told.lines(), Keys().first())
    assert (proof.verdict, [each.kind for each in proof.findings]) == ("unproved", ["unvouched"])


def test_who_trusts_the_first_key_follows_endorsements() -> None:
    keys = Keys()
    old = drawn(3, keys)
    keys.rotate("second")
    keys.rotate("third")
    new = drawn(4, keys)
    assert [prove(told.lines(), keys.first()).verdict for told in (old, new)] == ["proved", "proved"]
    assert prove(new.lines(), {pair("second").id: pair("second").public}).verdict == "proved"
    assert prove(new.lines(), Keys([pair("stranger")]).first()).verdict == "unproved"


def test_a_forged_endorsement_is_told() -> None:
    keys = Keys()
    keys.rotate("second")
    keys.chain[0] = keys.chain[0].model_copy(update={"since": NOW + timedelta(days=1)})
    assert "signature" in kinds(drawn(3, keys), keys)


def test_content_that_the_receipts_contradict_is_told() -> None:
    keys, told = Keys(), drawn(3, Keys())
    receipts = [event.receipt for event in told.receipts]
    without = [each for each in told.facts if each.fact.kind != "ToolsSelected"]
    found = list(check_content(told.run, without, range(len(without)), receipts))
    assert "undecided" in [each.kind for each in found]
    claimed = receipts[0].model_copy(update={"unanswered": (Unanswered(id="x", kind="CallTool"),)})
    found = list(check_content(told.run, told.facts, range(len(told.facts)), [claimed]))
    assert [each.kind for each in found] == ["unanswered"] and keys.first()


def test_erased_content_is_not_looked_into() -> None:
    told = drawn(3, Keys(), encrypted=True)

    facts = [Stored(decode_fact(raw.data), raw.position) for raw in told.raws]
    assert list(check_content(told.run, facts, range(len(facts)), [])) == []
    assert prove(told.lines(), Keys().first()).verdict == "proved"


# --- the chain ------------------------------------------------------------------------------------


async def chained(keys: Keys, count: int) -> list[RunSealed]:
    store = MemoryReceiptStore()
    for number in range(count):
        made = counted_as(run_of(f"run {number}"), 2)

        def make(before: Receipt | None, number: int, previous: str, made: Counted = made) -> RunSealed | None:
            return sealed(made, before, number=number, previous=previous, keys=keys, now=NOW)

        await store.add(TENANT, {made.run: make}, {})
    return await store.chain(TENANT)


async def test_the_first_bad_number_of_a_chain_is_named() -> None:
    keys = Keys()
    chain = await chained(keys, 6)

    def found(receipts: list[RunSealed]) -> list[tuple[str, int | None]]:
        return [(each.kind, each.receipt) for each in check_chain(receipts, keys.first(), tenant=TENANT)]

    assert found(chain) == []
    assert found(chain[:2] + chain[3:]) == [("number", 4)]
    changed = chain[2].model_copy(update={"receipt": chain[2].receipt.model_copy(update={"size": 9})})
    assert found([*chain[:2], changed, *chain[3:]]) == [("signature", 3), ("previous", 4)]
    again = sealed(counted_as(run_of("x"), 2), None, number=3, previous="0" * 64, keys=keys, now=NOW)
    assert again is not None
    assert found([*chain[:2], again, *chain[3:]]) == [("previous", 3), ("previous", 4)]
    assert [kind for kind, _ in found(await chained(Keys([pair("stranger")]), 2))] == ["unvouched", "unvouched"]


async def test_a_checkpoint_finds_a_chain_that_was_cut_or_written_anew() -> None:
    keys = Keys()
    chain = await chained(keys, 5)
    heads = {each.receipt.number: receipt_hash(each.receipt) for each in chain}
    signed = checkpoint_of(TENANT, 4, heads[4], key=keys.signing(), now=NOW)

    def found(heads: dict[int, str], signed: SignedCheckpoint = signed, tenant: str = TENANT) -> list[str]:
        return [each.kind for each in check_checkpoint(signed, heads, keys.first(), tenant=tenant)]

    assert found(heads) == []
    assert found({number: heads[number] for number in (1, 2, 3)}) == ["cut"]
    assert found({**heads, 4: heads[3]}) == ["rewritten"]
    assert found(heads, tenant="globex") == ["foreign"]
    later = signed.model_copy(update={"checkpoint": signed.checkpoint.model_copy(update={"number": 3})})
    assert "signature" in found(heads, later)
    other = checkpoint_of(TENANT, 4, heads[4], key=pair("stranger"), now=NOW)
    assert found(heads, other) == ["unvouched"]
