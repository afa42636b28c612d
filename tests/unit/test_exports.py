"""Exports of runs: what is written comes back, and whatever is wrong with a file is said with its line."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jsonschema
import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.exports import format as form
from infra.exports.causality import broken_causes
from infra.exports.format import BadExport, CannotWrite
from infra.exports.lines import Lines
from infra.exports.payload_lines import PIECE, KeptPayload, payload_bytes, read_payload
from infra.exports.payloads import PayloadSpool, fetch, payload_spool
from infra.exports.reading import Export, load_export, read_export
from infra.exports.references import Reference, references
from infra.exports.writing import Exported, exported, save_export, write_export
from runtime.log import Raw, Stored
from runtime.payloads import memory_payloads
from runtime.replay import replay
from schemas.envelope import Fact, decode_fact, encode
from schemas.events import AnswerCopied, ToolReturned
from schemas.ids import RunId
from schemas.subjects import FactSubject
from tests.support.builders import NOW, TENANT, RunUnderTest, fact_of, run_of
from tests.support.exports import (
    LIST,
    PICTURE,
    as_stored,
    caused,
    edited,
    lines_of,
    run_with_payloads,
    summed,
    with_fields,
    written,
)
from tests.support.sealing import Keys

GOLDEN = Path(__file__).parents[1] / "golden" / "decider-4.jsonl"
HERE = Path("run.jsonl")


@pytest.fixture
async def whole() -> bytes:
    run, spool = await run_with_payloads()
    return written(Exported(run.id, lines_of(run), payloads=spool))


def read(raw: bytes) -> Export:
    return read_export(io.BytesIO(raw), HERE)


def bad(raw: bytes) -> BadExport:
    with pytest.raises(BadExport) as refused:
        read(raw)
    assert refused.value.why and refused.value.hint
    return refused.value


# --- whole files ---


async def test_an_export_comes_back_byte_for_byte(tmp_path: Path) -> None:
    run, spool = await run_with_payloads()
    path = tmp_path / "run.jsonl"

    save_export(path, Exported(run.id, lines_of(run), payloads=spool), NOW)
    back = load_export(path)

    assert (back.run, back.created, back.version) == (run.id, NOW, 3)
    assert [each.fact for each in back.facts] == [each.fact for each in run.log]
    assert [raw for _, raw in back.both] == [each.data for each in back.messages] == lines_of(run)
    assert [each.position for each in back.facts] == list(range(1, len(run.log) + 1))
    assert [(each.media_type, each.bytes) for each in back.payloads] == [("image/png", len(PICTURE)), ("text/csv", len(LIST))]
    assert [b"".join(payload_bytes(path, each)) for each in back.payloads] == [PICTURE, LIST]
    assert not back.absent and not back.unread
    assert replay(back.run, back.facts).same


async def test_the_format_is_as_its_page_says_without_our_code(whole: bytes) -> None:
    *before, last = whole.splitlines(keepends=True)
    assert orjson.loads(last) == {"sha256": hashlib.sha256(b"".join(before)).hexdigest()}
    header, schemas = orjson.loads(before[0]), orjson.loads(before[-1])["schemas"]
    assert set(header) == {"format", "version", "run", "created", "events", "payloads"}
    events, payloads = before[1 : 1 + header["events"]], before[1 + header["events"] : -1]
    assert len(payloads) == header["payloads"] == 2
    for event in map(orjson.loads, events):
        jsonschema.Draft202012Validator(schemas[event["type"]]).validate(event["data"])
    assert set(schemas) == {orjson.loads(event)["type"] for event in events}
    for payload, data in zip(map(orjson.loads, payloads), (PICTURE, LIST), strict=True):
        assert base64.b64decode(payload["data"]) == data
        assert (payload["bytes"], payload["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


async def test_the_program_on_the_page_reads_a_file(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "exports.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("run.jsonl").write_bytes(whole)
    exec(program, {})
    assert [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()] == [
        f"{len(PICTURE)} bytes",
        f"{len(LIST)} bytes",
    ]
    Path("run.jsonl").write_bytes(whole.replace(b"renewed", b"removed"))
    with pytest.raises(AssertionError):
        exec(program, {})


def test_sealed_events_are_opened_as_the_page_says(golden: bytes) -> None:
    header, *lines = golden.splitlines()[:-2]
    aes = AESGCM(base64.b64decode(orjson.loads(header)["key"]))
    for stored, event in zip(read(golden).facts, map(orjson.loads, lines), strict=True):
        assert event["datacontenttype"] == "application/vnd.milepost.sealed+json"
        nonce, ciphertext = (base64.b64decode(event["data"][name]) for name in ("nonce", "ciphertext"))
        content = orjson.loads(aes.decrypt(nonce, ciphertext, event["id"].encode()))
        assert content == {"data": stored.fact.body.model_dump(mode="json")}


async def test_the_event_that_a_receipt_covers_names_the_digest_of_its_bytes() -> None:
    run, _ = await run_with_payloads()
    (result,) = [each.fact.body.result for each in run.log if isinstance(each.fact.body, ToolReturned)]
    assert [part.sha256 for part in result.parts] == [
        None, hashlib.sha256(PICTURE).hexdigest(), hashlib.sha256(LIST).hexdigest(), None
    ]  # fmt: skip


async def test_what_the_store_does_not_have_is_named(tmp_path: Path) -> None:
    run, _ = await run_with_payloads()
    with payload_spool(tmp_path) as spool:
        await fetch(spool, references(each.fact for each in run.log).values(), memory_payloads(), TENANT)
        raw = written(Exported(run.id, lines_of(run), payloads=spool))

    back = read(raw)

    assert back.payloads == () and len(back.absent) == 2
    assert all("There is no payload" in why for why in back.absent.values()) and back.absent == spool.missing


async def test_other_bytes_in_the_store_than_the_event_names_are_not_taken_along() -> None:
    store = memory_payloads()
    ref = await store.put(PICTURE, tenant=TENANT, datakey=None)
    spool = PayloadSpool(io.BytesIO())
    await fetch(spool, [Reference(ref, "image/png", hashlib.sha256(LIST).hexdigest())], store, TENANT)
    assert "other bytes" in spool.missing[ref]


async def test_payloads_may_be_left_out() -> None:
    run, _ = await run_with_payloads()
    back = read(written(Exported(run.id, lines_of(run))))
    assert set(back.absent.values()) == {"it was left out"} and len(back.absent) == 2


async def test_a_large_payload_is_read_in_pieces(tmp_path: Path) -> None:
    run, _ = await run_with_payloads()
    data = random.Random(1).randbytes(5_000_001)
    ref = next(iter(references(each.fact for each in run.log)))
    spool = PayloadSpool(io.BytesIO())
    spool.add(Reference(ref, None, None), data)
    events = [line.replace(hashlib.sha256(PICTURE).hexdigest().encode(), hashlib.sha256(data).hexdigest().encode())
              for line in lines_of(run)]  # fmt: skip
    path = tmp_path / "run.jsonl"
    save_export(path, Exported(run.id, events, payloads=spool), NOW)

    (kept,) = load_export(path).payloads
    pieces = list(payload_bytes(path, kept))

    assert b"".join(pieces) == data and max(map(len, pieces)) < 2_000_000


def test_a_payload_is_read_wherever_its_pieces_end() -> None:
    """The first piece has 4096 bytes: its end falls on every place around the end of the line."""
    for size in range(2850, 3000):
        for width in range(4):
            spool = PayloadSpool(io.BytesIO())
            spool.add(Reference("payload:" + "0" * 64, "x" * width, None), bytes(size))
            line = spool.lines().read()
            kept = read_payload(Lines(HERE, io.BytesIO(line)))
            assert (kept.bytes, kept.media_type) == (size, "x" * width)


def test_base64_ends_only_once_wherever_the_pieces_end(tmp_path: Path) -> None:
    first = base64.b64encode(bytes((PIECE - 3) // 4 * 3 - 1))
    assert first.endswith(b"=") and len(first) == (PIECE - 3) // 4 * 4
    (tmp_path / "pieces").write_bytes(first + b'AAAA"}\n')
    with pytest.raises(BadExport, match="no base64"):
        list(payload_bytes(tmp_path / "pieces", KeptPayload("payload:x", 1)))


async def test_a_copied_answer_refers_to_payloads_too() -> None:
    run, _ = await run_with_payloads()
    answer = next(each.fact.body for each in run.log if isinstance(each.fact.body, ToolReturned))
    copied = AnswerCopied(answer=answer, run="202611-" + "0" * 32, event="e" * 32, at=NOW)
    fact = fact_of(copied, run.id, "c" * 32, role="recorder")
    assert references([fact]) == references(each.fact for each in run.log)


async def test_messages_that_are_no_lines_or_no_events_are_kept_as_they_were() -> None:
    """A receipt counts them, so the file must hold them."""
    run, _ = await run_with_payloads()
    facts = [(each, encode(each.fact)) for each in run.log]
    spread = orjson.dumps(orjson.loads(facts[1][1]), option=orjson.OPT_INDENT_2)
    facts[1] = (facts[1][0], spread)
    foreign = fact_of(run.request, run.id, "request", tenant="other", role="client")
    ours = [Raw(str(FactSubject(run.id, TENANT, each.fact.role, each.fact.slot)), raw, each.position) for each, raw in facts]
    place = str(FactSubject(run.id, "other", "client", "request"))
    messages = [*ours, Raw(place, encode(foreign), 90), Raw(f"{place}x", b"\xff\n no json", 91), Raw(f"{place}y", b"", 92)]

    read_too = [*facts, (Stored(foreign, 90), encode(foreign))]  # as a log reads it: it does not know whose run it is
    back = read(written(await exported(run.id, read_too, Keys(), messages=messages)))

    assert [(each.subject, each.data) for each in back.messages] == [(each.subject, each.data) for each in messages]
    assert [each.fact for each in back.facts] == [each.fact for each in run.log] and back.unread == 3
    assert replay(back.run, back.facts).same


async def test_an_export_never_writes_over_a_file_and_leaves_no_half_of_one(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"here before")

    with pytest.raises(CannotWrite):
        save_export(path, Exported(run_of(), [b"{}"]), NOW)
    with pytest.raises(TypeError):
        save_export(path, Exported(run_of(), cast(Any, [None])), NOW, replace=True)
    with pytest.raises(CannotWrite):
        save_export(tmp_path / "no" / "folder" / "run.jsonl", Exported(run_of(), [b"{}"]), NOW)

    assert path.read_bytes() == b"here before"
    assert [each.name for each in tmp_path.iterdir()] == ["run.jsonl"]


# --- older and newer ones ---


def test_a_file_of_each_older_version_is_read_and_written_anew() -> None:
    for path in sorted(GOLDEN.parent.glob("*.jsonl")):
        old = load_export(path)
        new = read(written(Exported(old.run, [each.data for each in old.messages], key=old.key)))
        assert old.version in (1, 2) and (new.version, new.facts) == (3, old.facts)


def test_an_older_file_may_lack_its_last_end_of_line() -> None:
    raw = GOLDEN.read_bytes()
    assert read(raw[:-1]).facts == read(raw).facts
    assert "cut off" in bad(raw[: raw.rindex(b"\n", 0, -1)]).why


def test_a_newer_version_says_who_can_read_it(whole: bytes) -> None:
    refused = bad(edited(whole, lambda lines: [with_fields(lines[0], version=4), *lines[1:]]))
    assert refused.line == 1 and "newer one" in refused.hint


# --- damage ---


async def test_an_export_that_is_cut_anywhere_is_refused() -> None:
    run, spool = await run_with_payloads()
    short = [encode(each.fact) for each in run.log if each.fact.kind in ("RunRequested", "ToolReturned")]
    raw = written(Exported(run.id, short, payloads=spool, schemas=False))
    for end in range(len(raw)):
        bad(raw[:end])
    assert read(raw).facts


async def test_any_damage_is_found(whole: bytes) -> None:
    draw = random.Random(6)
    for _ in range(150):
        at = draw.randrange(len(whole))
        flipped = whole[:at] + bytes([whole[at] ^ (1 << draw.randrange(8))]) + whole[at + 1 :]
        bad(flipped)
        bad(whole[:at] + whole[at + 1 :])
        bad(whole[:at] + b" " + whole[at:])


async def test_what_comes_after_the_checksum_is_refused(whole: bytes) -> None:
    assert bad(whole + b"\n").line == len(whole.splitlines()) + 1


Edit = Callable[[list[bytes]], list[bytes]]
EVENTS = 12


def _ref(line: bytes) -> object:
    return orjson.loads(line)["payload"]


def _moved(lines: list[bytes], at: int, to: int) -> list[bytes]:
    rest = [*lines[:at], *lines[at + 1 :]]
    return [*rest[:to], lines[at], *rest[to:]]


OTHER = encode(fact_of(RunUnderTest(key="other").request, run_of("other"), "request"))
TWICE = b'"format":"milepost-run",'


def _changed(lines: list[bytes], old: bytes, new: bytes) -> list[bytes]:
    changed = lines[EVENTS + 1].replace(old, new)
    assert changed != lines[EVENTS + 1]
    return [*lines[: EVENTS + 1], changed, *lines[EVENTS + 2 :]]


def _swapped(lines: list[bytes]) -> list[bytes]:
    """The bytes of the second payload under the first one's name, with their own digest: a forger's way."""
    first, second = lines[EVENTS + 1], lines[EVENTS + 2]
    return [*lines[: EVENTS + 1], second.replace(str(_ref(second)).encode(), str(_ref(first)).encode()), *lines[EVENTS + 2 :]]


EDITS: list[tuple[str, Edit, int, str]] = [
    ("no JSON", lambda lines: [b"{", *lines[1:]], 1, "no JSON object"),
    ("empty header", lambda lines: [b"", *lines[1:]], 1, "no JSON object"),
    ("no header", lambda lines: lines[1:], 1, '"format": "milepost-run"'),
    ("other format", lambda lines: [with_fields(lines[0], format="other"), *lines[1:]], 1, '"format": "milepost-run"'),
    ("version in words", lambda lines: [with_fields(lines[0], version="3"), *lines[1:]], 1, "version"),
    ("version true", lambda lines: [with_fields(lines[0], version=True), *lines[1:]], 1, "version"),
    ("version 0", lambda lines: [with_fields(lines[0], version=0), *lines[1:]], 1, "version"),
    ("created", lambda lines: [with_fields(lines[0], created="yesterday"), *lines[1:]], 1, "created"),
    ("unknown field", lambda lines: [with_fields(lines[0], note="x"), *lines[1:]], 1, "note"),
    ("field twice", lambda lines: [lines[0].replace(TWICE, TWICE * 2), *lines[1:]], 1, "same key twice"),
    ("key", lambda lines: [with_fields(lines[0], key="§"), *lines[1:]], 1, "no base64"),
    ("long header", lambda lines: [lines[0] + b" " * 5000, *lines[1:]], 1, "longer than 4096"),
    ("other run in the header", lambda lines: [with_fields(lines[0], run=run_of("other")), *lines[1:]], 2, "another run"),
    ("one event less told", lambda lines: [with_fields(lines[0], events=EVENTS - 1), *lines[1:]], EVENTS + 1, "payload"),
    ("one event more told", lambda lines: [with_fields(lines[0], events=EVENTS + 1), *lines[1:]], EVENTS + 2, "cut off"),
    ("one payload less", lambda lines: [with_fields(lines[0], payloads=1), *lines[1:]], EVENTS + 3, "schemas should"),
    ("one payload more", lambda lines: [with_fields(lines[0], payloads=3), *lines[1:]], EVENTS + 4, "announces more"),
    ("nonsense", lambda lines: [*lines[:2], b"nonsense", *lines[3:]], 3, "no valid JSON"),
    ("empty line", lambda lines: [*lines[:2], b"", *lines[3:]], 3, "no valid JSON"),
    ("other id", lambda lines: [*lines[:2], with_fields(lines[2], id="0" * 32), *lines[3:]], 3, "id is not the id"),
    ("other writer", lambda lines: [*lines[:2], with_fields(lines[2], source="/milepost/client/x"), *lines[3:]], 3, "id is"),
    ("no data", lambda lines: [*lines[:2], with_fields(lines[2], data={}), *lines[3:]], 3, "The data is no"),
    ("newer event", lambda lines: [*lines[:2], with_fields(lines[2], type="io.milepost.New.v9"), *lines[3:]], 3, "unknown"),
    ("other tenant", lambda lines: [*lines[:2], with_fields(lines[2], tenant="evil"), *lines[3:]], 3, "id is not the id"),
    ("other run", lambda lines: [*lines[:2], OTHER, *lines[3:]], 3, "another run"),
    ("twice", lambda lines: [*lines[:3], lines[1], *lines[4:]], 4, "the event of line 2 stands here again"),
    ("writers", lambda lines: [*lines[:3], with_fields(lines[1], origin="x"), *lines[4:]], 4, "two writers"),
    ("an event gone", lambda lines: [*lines[:3], *lines[4:]], EVENTS + 1, "cut off"),
    ("no request", lambda lines: [with_fields(lines[0], events=EVENTS - 1), *lines[2:]], 0, "request that began the run"),
    ("no base64 message", lambda lines: [*lines[:2], b'{"message":"%","subject":"x"}', *lines[3:]], 3, "no message in base64"),
    ("schemas gone", lambda lines: lines[:-1], EVENTS + 4, "schemas should stand here"),
    ("schemas no object", lambda lines: [*lines[:-1], b'{"schemas":[]}'], EVENTS + 4, "schemas should stand here"),
    ("more than schemas", lambda lines: [*lines[:-1], b'{"schemas":{},"x":1}'], EVENTS + 4, "schemas should stand here"),
    ("payload gone", lambda lines: [*lines[: EVENTS + 1], *lines[EVENTS + 2 :]], EVENTS + 3, "announces more"),
    ("payload twice", lambda lines: [*lines[: EVENTS + 2], lines[EVENTS + 1], *lines[EVENTS + 3 :]], EVENTS + 3, "already"),
    ("unknown payload", lambda lines: [
        *lines[: EVENTS + 1], lines[EVENTS + 1].replace(str(_ref(lines[EVENTS + 1])).encode(), b"payload:" + b"0" * 64),
        *lines[EVENTS + 2 :]], EVENTS + 2, "no event refers"),
    ("length", lambda lines: _changed(lines, b'"bytes":%d' % len(PICTURE), b'"bytes":1'), EVENTS + 2, "not those that"),
    ("payload's bytes", lambda lines: _changed(lines, b'"data":"', b'"data":"AAAA'), EVENTS + 2, "not those that"),
    ("one byte of a payload", lambda lines: _changed(lines, b'"data":"i', b'"data":"j'), EVENTS + 2, "not those that"),
    ("no base64", lambda lines: _changed(lines, b'"data":"', b'"data":"%'), EVENTS + 2, "no base64"),
    ("data not last", lambda lines: _changed(lines, b'"}', b'","more":1}'), EVENTS + 2, "its last field"),
    ("too large", lambda lines: _changed(lines, b'"bytes":%d' % len(PICTURE), b'"bytes":999999999'), EVENTS + 2, "no line"),
    ("other bytes", _swapped, EVENTS + 2, "the run's event names"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "line", "said"), [each[1:] for each in EDITS], ids=[each[0] for each in EDITS])
async def test_an_edited_file_says_what_is_wrong_where(whole: bytes, edit: Edit, line: int, said: str) -> None:
    assert orjson.loads(whole.splitlines()[0])["events"] == EVENTS
    refused = bad(edited(whole, edit))
    assert (refused.line, said in refused.why) == (line, True), refused.why


class Endless(io.RawIOBase):
    """A file whose second line has no end."""

    def __init__(self, header: bytes) -> None:
        self._header, self.given = header, 0

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None and size > 0
        if header := self._header:
            self._header = b""
            return header
        self.given += size
        return b"x" * size


def test_a_gigantic_line_is_not_read_whole(whole: bytes) -> None:
    endless = Endless(whole.splitlines(keepends=True)[0])
    with pytest.raises(BadExport, match="longer than"):
        read_export(cast(Any, endless), HERE)
    assert endless.given <= form.MESSAGE_BYTES + 1


async def test_a_gigantic_payload_is_read_no_further_than_it_says(whole: bytes) -> None:
    lines = whole.splitlines(keepends=True)
    head = b"".join(lines[: EVENTS + 1])

    class Beginning(io.BytesIO):
        given = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            line = super().readline(size)
            if line:
                return line
            self.given += size or 0
            return b"A" * (size or 0)

    file = Beginning(head + lines[EVENTS + 1].partition(b'"}')[0])
    with pytest.raises(BadExport, match="not those that"):
        read_export(file, HERE)
    assert file.given < 4_000_000


# --- causes and clocks ---


def _recaused(raw: bytes, change: Callable[[list[Fact]], dict[int, str]]) -> bytes:
    """The golden run, unsealed causes edited by line number of the event from 0."""

    def edit(lines: list[bytes]) -> list[bytes]:
        facts = [decode_fact(line) for line in lines[1:-1]]
        causes = change(facts)
        return [lines[0], *(with_fields(line, causes=causes.get(at, facts[at].header.causes) or None)
                            for at, line in enumerate(lines[1:-1])), lines[-1]]  # fmt: skip

    return edited(raw, edit)


@pytest.fixture
def golden() -> bytes:
    old = load_export(GOLDEN)
    return written(Exported(old.run, [each.data for each in old.messages], key=old.key))


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (lambda facts: {2: "f" * 32}, 4, "an event is missing"),
        (lambda facts: {2: facts[4].id}, 4, "form a cycle"),
        (lambda facts: {2: facts[2].id}, 4, "form a cycle"),
        (lambda facts: {1: facts[2].id, 2: facts[0].id}, 3, "comes after it"),
    ],
)
def test_causes_that_are_no_causes_are_refused(
    golden: bytes, change: Callable[[list[Fact]], dict[int, str]], line: int, said: str
) -> None:
    assert read(golden).facts
    refused = bad(_recaused(golden, change))
    assert (refused.line, said in refused.why) == (line, True), refused.why


def test_a_gap_in_a_log_is_a_cause_that_is_missing(golden: bytes) -> None:
    def without_the_tools(lines: list[bytes]) -> list[bytes]:
        return [with_fields(lines[0], events=len(lines) - 3), lines[1], *lines[3:]]

    refused = bad(edited(golden, without_the_tools))
    assert "an event is missing" in refused.why and refused.line == 4


def test_a_message_that_nobody_can_read_may_be_the_cause_that_is_missing(golden: bytes) -> None:
    lines = golden.splitlines()
    unread = orjson.dumps({"message": base64.b64encode(b"?").decode(), "subject": "x"})
    back = read(edited(golden, lambda lines: [lines[0], lines[1], unread, *lines[3:]]))
    assert (back.unread, len(back.messages)) == (1, len(lines) - 3)
    later = orjson.loads(lines[5])["id"]
    refused = bad(edited(golden, lambda lines: [*lines[:2], unread, with_fields(lines[3], causes=later), *lines[4:]]))
    assert (refused.line, "form a cycle" in refused.why) == (4, True)


def test_an_event_in_base64_counts_only_where_it_belongs(golden: bytes) -> None:
    first = read(golden).messages[2]

    def wrap(subject: str) -> bytes:
        line = orjson.dumps({"message": base64.b64encode(first.data).decode(), "subject": subject})
        return edited(golden, lambda lines: [*lines[:3], line, *lines[4:]])

    assert read(wrap(first.subject)).unread == 0
    assert read(wrap(first.subject[:-1])).unread == 1


def test_a_clock_that_steps_back_is_a_note_of_the_replay_and_no_error(golden: bytes) -> None:
    old = read(golden)
    lines = [each.data for each in old.messages]
    back = read(written(Exported(old.run, [*lines[:4], with_fields(lines[4], time="2020-01-01T00:00:00Z"), *lines[5:]])))
    (note,) = replay(back.run, back.facts).notes
    assert (note.kind, note.event) == ("clock", 5)


async def test_who_is_not_asked_may_name_what_is_not_there() -> None:
    run, _ = await run_with_payloads()
    request = caused(run, run.request, "request")
    released = caused(run, run.log[0].fact.body.model_copy(), "request", "f" * 32)  # type: ignore[union-attr]
    assert not list(broken_causes(as_stored(request, released)))


# --- anything at all ---


@pytest.fixture(scope="module")
def small() -> bytes:
    old = load_export(GOLDEN)
    return written(Exported(old.run, [each.data for each in old.messages], key=old.key, schemas=False))


def _reads_or_refuses(raw: bytes) -> None:
    try:
        read(raw)
    except BadExport:
        return


@given(st.binary(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_refused_and_never_anything_else(raw: bytes) -> None:
    _reads_or_refuses(raw)
    _reads_or_refuses(summed(raw))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_random_edits_are_read_or_refused_and_never_anything_else(small: bytes, data: st.DataObject) -> None:
    lines = small.splitlines()[:-1]
    at = data.draw(st.integers(0, len(lines) - 1))
    line = lines[at]
    how = data.draw(st.sampled_from(["bytes", "field", "value", "swap", "drop", "copy"]))
    if how == "bytes":
        place = data.draw(st.integers(0, len(line)))
        line = line[:place] + data.draw(st.binary(max_size=8)) + line[place + data.draw(st.integers(0, 8)) :]
    elif how in ("field", "value"):
        said = orjson.loads(line)
        key = data.draw(st.sampled_from(sorted(said)) if how == "value" else st.text(max_size=12))
        said[key] = data.draw(_JSON)
        try:
            line = orjson.dumps(said)
        except (TypeError, orjson.JSONEncodeError):
            return
    new = [*lines[:at], line, *lines[at + 1 :]]
    if how == "swap":
        to = data.draw(st.integers(0, len(lines) - 1))
        new[at], new[to] = new[to], new[at]
    elif how == "drop":
        del new[at]
    elif how == "copy":
        new.insert(at, line)
    _reads_or_refuses(summed(b"".join(each + b"\n" for each in new)))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=20)
    | st.just("payload:" + "0" * 64),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_an_export_says_which_file_it_could_not_read(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.jsonl", tmp_path):
        with pytest.raises(BadExport, match=str(path)):
            load_export(path)


def test_the_writer_takes_what_the_reader_gives(whole: bytes) -> None:
    back = read(whole)
    out = io.BytesIO()
    write_export(out, Exported(RunId(back.run), [each.data for each in back.messages]), NOW)
    assert read(out.getvalue()).facts == back.facts
