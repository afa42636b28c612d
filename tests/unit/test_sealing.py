"""Sealed content says nothing to who has no key, and nothing else than it said to who has it."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from infra.exports.format import BadExport
from infra.exports.reading import load_export
from infra.exports.writing import Exported, exported, save_export
from infra.master_key import MasterKey, MasterKeyError, make_master_key, master_key
from runtime.fold import fold
from runtime.log import Stored
from runtime.replay import replay
from runtime.sealing import Erased, Sealing, Tampered, UnknownKey, run_key, seal, unseal
from runtime.timeline import summary
from schemas.commands import CallTool
from schemas.envelope import Envelope, Fact, decode, decode_fact, encode
from schemas.errors import ProtocolError
from schemas.events import ToolReturned
from schemas.sealing import PLAIN, SEALED, Sealed
from schemas.tools import ToolResult
from tests.support.builders import NOW, TENANT, RunUnderTest, call, fact_of, order_for, ready, request_fact, requested, run_of
from tests.support.sealing import CANARY, Keys, order_under, under

SECRET = bytes(range(32))
KEY = run_key(SECRET, run_of())
NONCE = b"n" * 12
COMMAND = CallTool(call=call("clock", city=CANARY), card_hash="h", host="builtin")


def returned(text: str = CANARY, slot: str = "c" * 32) -> Fact:
    return under(fact_of(ToolReturned(command=COMMAND, result=ToolResult(text=text)), run_of(), slot), "k" * 32)


def stored_as(fact: Fact, key: bytes = KEY) -> bytes:
    return encode(seal(fact, key, NONCE))


def opened(raw: bytes, key: bytes = KEY) -> object:
    sealed = decode(raw)
    assert isinstance(sealed.body, Sealed)
    return unseal(sealed, key)  # type: ignore[arg-type]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=200)


@given(text=texts, secret=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=12, max_size=12))
def test_what_was_sealed_is_opened_as_it_was(text: str, secret: bytes, nonce: bytes) -> None:
    fact, key = returned(text), run_key(secret, run_of())
    assert opened(encode(seal(fact, key, nonce)), key) == fact


def test_the_stored_bytes_say_where_it_stands_and_nothing_else() -> None:
    raw = stored_as(returned())
    assert CANARY.encode() not in raw and b"clock" not in raw
    sealed = decode_fact(raw)
    assert (sealed.kind, sealed.slot, sealed.run, sealed.header.datacontenttype) == ("ToolReturned", "c" * 32, run_of(), SEALED)
    assert summary(sealed) == "erased on request"
    assert opened(raw).header.datacontenttype == PLAIN  # type: ignore[attr-defined]


def test_a_command_is_sealed_with_its_material() -> None:
    order = order_under(order_for(COMMAND), "k" * 32, user="ann", state=CANARY)
    raw = encode(seal(order, KEY, NONCE))
    assert CANARY.encode() not in raw
    assert opened(raw) == order


def test_what_is_not_sealed_has_the_bytes_it_always_had() -> None:
    assert b"datakey" not in encode(request_fact())


@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_one_changed_bit_of_the_ciphertext_is_seen(place: int, bit: int) -> None:
    sealed = seal(returned(), KEY, NONCE)
    raw = bytearray(base64.b64decode(sealed.body.ciphertext))
    raw[place % len(raw)] ^= 1 << bit
    body = sealed.body.model_copy(update={"ciphertext": base64.b64encode(raw).decode()})
    with pytest.raises(Tampered):
        unseal(replace(sealed, body=body), KEY)


def _moved(fact: Fact) -> Envelope[Sealed]:
    """The ciphertext of another fact in the place of this one."""
    return replace(seal(fact, KEY, NONCE), body=seal(returned(), KEY, NONCE).body)


@pytest.mark.parametrize(
    "sealed",
    [
        _moved(returned(slot="d" * 32)),
        _moved(under(fact_of(returned().body, run_of("other"), "c" * 32), "k" * 32)),  # type: ignore[arg-type]
        _moved(under(fact_of(returned().body, run_of(), "c" * 32, tenant="other"), "k" * 32)),  # type: ignore[arg-type]
        replace(seal(returned(), KEY, NONCE), body=Sealed(nonce="?", ciphertext="?")),
        replace(seal(returned(), KEY, NONCE), body=Sealed(nonce="", ciphertext="")),
    ],
    ids=["slot", "run", "tenant", "no base64", "empty"],
)
def test_content_that_was_moved_or_is_none_is_refused(sealed: Envelope[Sealed]) -> None:
    with pytest.raises(Tampered):
        unseal(sealed, KEY)


@pytest.mark.parametrize("key", [run_key(SECRET, run_of("other")), run_key(b"x" * 32, run_of())], ids=["run", "person"])
def test_another_key_opens_nothing(key: bytes) -> None:
    with pytest.raises(Tampered):
        opened(stored_as(returned()), key)


def test_content_of_another_type_than_the_header_says_is_refused() -> None:
    sealed = seal(returned(), KEY, NONCE)
    header = sealed.header.model_copy(update={"type": "io.milepost.RunCompleted.v1"})
    with pytest.raises(ProtocolError):
        unseal(replace(sealed, header=header), KEY)


def test_sealed_content_without_the_name_of_a_key_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode(encode(replace(seal(returned(), KEY, NONCE), header=seal(returned(), KEY, NONCE).header.model_copy(
            update={"datakey": None}
        ))))  # fmt: skip


def test_text_that_nobody_could_read_is_refused_before_it_is_sealed() -> None:
    with pytest.raises(ProtocolError):
        seal(replace(returned(), body=ToolReturned(command=COMMAND, result=ToolResult(text="lone \ud800"))), KEY, NONCE)


def test_a_runs_key_is_that_of_rfc_5869() -> None:
    info = b"milepost run " + run_of().encode()
    assert HKDFExpand(hashes.SHA256(), 32, info).derive(SECRET) == run_key(SECRET, run_of())


# --- with a keyring ---


async def test_a_key_of_another_tenant_or_of_nobody_is_refused() -> None:
    keys = Keys()
    foreign = (await keys.store.key_of("other", "ann")).id
    for id in (foreign, "f" * 32):
        with pytest.raises(UnknownKey):
            await keys.sealing().sealed(under(request_fact(), id))


async def test_after_the_key_was_destroyed_nothing_is_opened_and_nothing_sealed() -> None:
    keys = Keys()
    fact = under(request_fact(), await keys.datakey())
    raw = encode(await keys.sealing().sealed(fact))
    assert await keys.sealing().fact(decode(raw)) == fact
    await keys.store.destroy(TENANT, "ann")
    assert isinstance((await keys.sealing().fact(decode(raw))).body, Sealed)
    with pytest.raises(Erased):
        await keys.sealing().sealed(fact)
    order = order_under(order_for(COMMAND), fact.header.datakey or "")
    with pytest.raises(Erased):
        await keys.sealing().sealed(order)


async def test_a_new_key_opens_nothing_old() -> None:
    keys = Keys()
    old = await keys.datakey()
    await keys.store.destroy(TENANT, "ann")
    assert await keys.datakey() != old


# --- runs ---


def _sealed_run() -> RunUnderTest:
    run = ready()
    run.say(text="It is noon.")
    run.end()
    return run


async def _stored(run: RunUnderTest, sealing: Sealing, datakey: str) -> list[tuple[Stored, bytes]]:
    """The run as a log keeps and gives it."""
    raw = [encode(await sealing.sealed(under(each.fact, datakey))) for each in run.log]
    return [(Stored(await sealing.fact(decode(data)), number), data) for number, data in enumerate(raw, start=1)]


async def test_a_sealed_run_is_replayed_as_it_was_and_an_erased_one_decides_nothing() -> None:
    keys, run = Keys(), _sealed_run()
    datakey = await keys.datakey()
    facts = [stored for stored, _ in await _stored(run, keys.sealing(), datakey)]
    assert replay(run.id, facts).same and replay(run.id, facts).outcome == "completed"
    assert fold(run.id, facts).state.datakey == datakey
    gone = [Stored(replace(each.fact, body=Sealed(nonce="", ciphertext="")), each.position) for each in facts]
    folded = fold(run.id, gone)
    assert folded.state.erased and not folded.open and folded.state.request is None


def test_what_somebody_else_puts_into_a_run_does_not_erase_it() -> None:
    run = ready()
    foreign = fact_of(requested(), run.id, "request", tenant="other", role="client")
    run.hear(replace(under(foreign, "k" * 32), body=Sealed(nonce="", ciphertext="")))
    assert not run.state.erased and run.state.outstanding


def test_a_foreign_request_that_was_erased_does_not_keep_the_real_one_from_beginning() -> None:
    run = RunUnderTest()
    foreign = fact_of(requested(), run.id, "request", tenant="other", role="client")
    run.hear(replace(under(foreign, "k" * 32), body=Sealed(nonce="", ciphertext="")))
    assert run.begin() and not run.state.erased


# --- files ---


async def test_an_export_holds_the_stored_bytes_and_the_key_of_its_run_alone(tmp_path: Path) -> None:
    keys, run, path = Keys(), _sealed_run(), tmp_path / "run.jsonl"
    facts = await _stored(run, keys.sealing(), await keys.datakey())
    what = await exported(run.id, facts, keys)
    save_export(path, what, NOW)
    lines = path.read_bytes().splitlines()
    assert lines[1:-2] == [raw for _, raw in facts]
    secret = (await keys.store.key_of(TENANT, "ann")).secret or b""
    assert base64.b64encode(secret) not in lines[0]
    read = load_export(path)
    assert [each.fact for each in read.facts] == [stored.fact for stored, _ in facts]
    assert replay(read.run, read.facts).same


async def test_an_export_of_an_erased_run_has_no_key_and_says_nothing(tmp_path: Path) -> None:
    keys, run, path = Keys(), _sealed_run(), tmp_path / "run.jsonl"
    facts = await _stored(run, keys.sealing(), await keys.datakey())
    await keys.store.destroy(TENANT, "ann")
    what = await exported(run.id, facts, keys)
    assert what.sealed and what.key is None
    save_export(path, what, NOW)
    assert fold(run.id, load_export(path).facts).state.erased


async def test_an_export_whose_key_or_content_was_changed_is_refused(tmp_path: Path) -> None:
    keys, run, path = Keys(), _sealed_run(), tmp_path / "run.jsonl"
    facts = await _stored(run, keys.sealing(), await keys.datakey())
    what = await exported(run.id, facts, keys)
    swapped = [what.events[0], what.events[2], *what.events[1:2], *what.events[3:]]
    for broken in (Exported(what.run, what.events, True, b"x" * 32), Exported(what.run, _crossed(swapped), True, what.key)):
        save_export(path, broken, NOW, replace=True)
        with pytest.raises(BadExport):
            load_export(path)


def _crossed(lines: list[bytes]) -> list[bytes]:
    """The ciphertext of the second event in the third's place."""
    second, third = decode(lines[1]), decode(lines[2])
    return [*lines[:2], encode(replace(third, body=second.body)), *lines[3:]]  # type: ignore[arg-type]


def test_an_export_of_an_unsealed_run_has_no_key(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    save_export(path, Exported(run_of(), [encode(request_fact())]), NOW)
    assert b"key" not in path.read_bytes().splitlines()[0]


# --- the master key ---


def test_a_wrapped_key_is_only_unwrapped_by_its_master_for_its_tenant_and_id() -> None:
    master, secret = MasterKey(b"m" * 32), b"s" * 32
    wrapped = master.wrap("acme", "k1", secret)
    assert secret not in wrapped and master.unwrap("acme", "k1", wrapped) == secret
    for wrong, tenant, id, bytes_ in (
        (MasterKey(b"n" * 32), "acme", "k1", wrapped), (master, "other", "k1", wrapped), (master, "acme", "k2", wrapped),
        (master, "acme", "k1", wrapped[:-1]), (master, "acme", "k1", b""),
    ):  # fmt: skip
        with pytest.raises(MasterKeyError):
            wrong.unwrap(tenant, id, bytes_)


def test_the_master_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    make_master_key(file)
    text = file.read_text()
    make_master_key(file)
    assert file.read_text() == text and file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    master = master_key(None, file)
    assert master_key(text.strip(), tmp_path / "none").unwrap("t", "k", master.wrap("t", "k", b"s")) == b"s"


def test_a_master_key_that_is_missing_open_or_malformed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    with pytest.raises(MasterKeyError, match="no master key"):
        master_key(None, file)
    make_master_key(file)
    file.chmod(0o644)
    with pytest.raises(MasterKeyError, match="Others may read"):
        master_key(None, file)
    for bad in ("", "short", "!" * 44, base64.b64encode(b"x" * 31).decode()):
        with pytest.raises(MasterKeyError, match="malformed"):
            master_key(bad, file)
