"""Verifying files: what was changed is found, exit codes and words, and which keys are trusted."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra.checkpoint_files import BadCheckpoint, CheckpointFiles, load_checkpoints
from infra.cli import show, words
from infra.cli.app import app
from infra.exports.format import BadExport
from infra.exports.writing import Exported, save_export, wrapped
from infra.receipt_keys import (
    ReceiptKeyError,
    RecorderKeys,
    make_receipt_keys,
    parsed,
    path_to,
    public_file,
    read_public,
    rotate,
    shown,
)
from infra.verifying import verify_file
from runtime import proving
from runtime.log import Raw
from runtime.proving import WRONG, Finding, Unproved
from runtime.receipts import checkpoint_of, count, fact_of, sealed
from schemas.envelope import encode
from schemas.subjects import FactSubject
from tests.drill import tamper
from tests.support.builders import NOW, TENANT
from tests.support.receipts import Keys, drawn, pair, save

COUNT, UNTOUCHED = 260, 60


# --- tampering ------------------------------------------------------------------------------------


def test_tampering_is_found_and_nothing_else(tmp_path: Path) -> None:
    outcome = tamper.run(COUNT, UNTOUCHED, seed=11, folder=tmp_path)
    assert outcome.good, (outcome.missed, outcome.misreported)
    assert len(outcome.tried) == len(tamper.TAMPERINGS) and outcome.verdicts["tampered"] > COUNT / 2


@pytest.mark.parametrize("check", ["_check_tree", "_check_signature"])
def test_without_one_of_its_checks_tampering_is_missed(tmp_path: Path, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, check, lambda *_: iter(()))
    assert tamper.run(COUNT // 2, 0, seed=11, folder=tmp_path).missed


def test_an_edited_line_is_named_though_the_checksum_was_put_right(tmp_path: Path) -> None:
    keys = Keys()
    (sample,) = tamper.samples(tmp_path, keys, seed=3, size=1)
    lines = [*sample.events]
    lines[4] = lines[4].replace(b'"time":"2026', b'"time":"2025')
    path = tmp_path / "edited.jsonl"
    path.write_bytes(tamper.whole(sample.head, lines, sample.rest))
    found = verify_file(path, keys.first()).proof.findings
    assert [(each.kind, each.line, each.event) for each in found] == [("edited", 6, 5)]
    path.write_bytes(sample.data.replace(sample.events[4], lines[4]))
    found = verify_file(path, keys.first()).proof.findings
    assert [(each.kind, each.line) for each in found] == [("file", found[0].line), ("edited", 6)]


def test_what_no_event_is_counts_and_is_proved_like_the_rest(tmp_path: Path) -> None:
    """Whoever reaches the bus can write into a run's subjects; it is evidence like all else."""
    keys, told = Keys(), drawn(3, Keys())
    place = FactSubject(told.run, "globex", "tools", "junk")
    told.raws.insert(2, Raw(str(place), b"no\nevent", 3))
    counted = count(told.run, told.raws[:-1], {})
    assert counted is not None
    event = sealed(counted, None, number=1, previous="", keys=keys, now=NOW)
    assert event is not None
    lines = [wrapped(raw.subject, raw.data) if b"\n" in raw.data else raw.data for raw in told.raws[:-1]]
    path = tmp_path / "run.jsonl"
    save_export(path, Exported(told.run, [*lines, encode(fact_of(event))]), NOW)
    found = verify_file(path, keys.first())
    assert (found.proof.verdict, found.opened) == ("proved", False)
    lines[2] = wrapped(str(place), b"no\nEvent")
    save_export(path, Exported(told.run, [*lines, encode(fact_of(event))]), NOW, replace=True)
    found = verify_file(path, keys.first())
    assert [(each.kind, each.line) for each in found.proof.findings] == [("edited", 4)]


def test_what_is_no_export_is_refused_rather_than_judged(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for said in (b"", b"hello\n", b'{"format":"milepost-run","version":99}\n'):
        path.write_bytes(said)
        with pytest.raises(BadExport):
            verify_file(path, {})


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _in_english(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(show._STATE, "json", False)
    monkeypatch.setenv("LC_ALL", "en")
    monkeypatch.setitem(words._STATE, "language", None)
    monkeypatch.chdir(tmp_path)


def verified(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["verify", *arguments])


def text_of(keys: dict[str, bytes]) -> str:
    return shown(keys)[0]


def test_the_exit_code_tells_what_became_of_it(tmp_path: Path) -> None:
    keys, other = Keys(), Keys([pair("stranger")])
    file = str(save(drawn(3, keys), tmp_path / "run.jsonl"))
    first = text_of(keys.first())
    good = verified(file, "--key", first)
    assert good.exit_code == 0 and "proved" in good.stdout and "receipt 1 (part 1)" in good.stdout
    stranger = verified(file, "--key", text_of(other.first()))
    assert stranger.exit_code == 3 and "no key that you trust vouches" in stranger.stdout
    nobody = verified(file)
    assert nobody.exit_code == 3 and "no public keys are trusted here" in nobody.stdout
    raw = Path(file).read_bytes()
    Path(file).write_bytes(raw.replace(b'"time":"2026', b'"time":"2025', 1))
    bad = verified(file, "--key", first)
    assert bad.exit_code == 4 and "line 2, event 1: not what was signed: event 1" in bad.stdout


def test_it_speaks_chinese_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, told = Keys(), drawn(3, Keys())
    del told.raws[-1]
    file = str(save(told, tmp_path / "run.jsonl"))
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert "运行尚无回执" in verified(file, "--key", text_of(keys.first())).stdout
    said = verified(file, "--key", text_of(keys.first()), "--json")
    assert said.exit_code == 3 and json.loads(said.stdout)["findings"][0]["kind"] == "unsealed"


def test_every_finding_has_words_in_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    from typing import get_args

    from infra.cli.verify import sentence

    for kind in (*WRONG, *get_args(Unproved)):
        english = sentence(Finding(kind, "7"))
        monkeypatch.setenv("LC_ALL", "zh")
        assert english != sentence(Finding(kind, "7"))
        monkeypatch.setenv("LC_ALL", "en")


def test_the_data_directorys_own_keys_are_trusted_and_the_files_never(tmp_path: Path) -> None:
    home = tmp_path / ".milepost"
    home.mkdir()
    make_receipt_keys(home / "recorder.key")
    own = RecorderKeys(home / "recorder.key")
    keys = Keys([own.signing()])
    file = str(save(drawn(3, keys), tmp_path / "run.jsonl"))
    assert verified(file, "--home", str(home)).exit_code == 0
    assert verified(file, "--keys", str(home / "recorder.pub")).exit_code == 0
    assert verified(file, "--home", str(tmp_path / "elsewhere")).exit_code == 3
    assert verified(file, "--keys", str(tmp_path / "nothing.pub")).exit_code == 1
    assert verified(file, "--key", "abc=def").exit_code == 1


# --- keys -----------------------------------------------------------------------------------------


def test_keys_are_made_once_and_kept_apart(tmp_path: Path) -> None:
    file = tmp_path / "recorder.key"
    make_receipt_keys(file)
    one = RecorderKeys(file)
    make_receipt_keys(file)
    assert RecorderKeys(file).signing().id == one.signing().id
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert one.trusted() == {one.signing().id: one.signing().public} and one.endorsements() == ()
    file.chmod(0o644)
    with pytest.raises(ReceiptKeyError, match="Others may read"):
        RecorderKeys(file)


def test_a_rotated_key_is_endorsed_and_taken_up_at_once(tmp_path: Path) -> None:
    file = tmp_path / "recorder.key"
    make_receipt_keys(file)
    running = RecorderKeys(file)
    first = Keys([running.signing()])
    second = rotate(file, datetime(2026, 12, 1, tzinfo=UTC))
    third = rotate(file)
    assert running.signing().id == third.id
    assert [each.key for each in running.endorsements()] == [second.id, third.id]
    assert set(running.trusted()) == {*first.trusted(), second.id, third.id}
    assert [each.key for each in path_to(second.id, running.endorsements())] == [second.id]
    known, wrong = proving.followed(first.first(), running.endorsements())
    assert wrong == "" and set(known) == set(running.trusted())


def test_a_key_that_is_given_is_published_beside_the_others(tmp_path: Path) -> None:
    file = tmp_path / "recorder.key"
    keys = RecorderKeys(file, given="A" * 43 + "=")
    assert read_public(public_file(file)) == keys.public()
    assert parsed(shown(keys.trusted())) == keys.trusted() and keys.endorsements() == ()


def test_public_keys_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "recorder.pub"
    for said in ("", "[]", '{"keys": [{"key": "a", "public": "b", "since": "2026-12-01T00:00:00Z"}]}'):
        file.write_text(said)
        with pytest.raises(ReceiptKeyError):
            read_public(file)
    assert read_public(tmp_path / "other.pub") is None


# --- checkpoints ----------------------------------------------------------------------------------


def test_checkpoints_are_added_and_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    shelf, key = CheckpointFiles(tmp_path / "kept"), pair("first")
    made = [checkpoint_of(TENANT, number, "a" * 64, key=key, now=NOW + timedelta(seconds=number)) for number in (1, 5)]
    assert shelf.last(TENANT) is None
    for each in made:
        shelf.put(each)
    with shelf.path(TENANT).open("ab") as file:
        file.write(b'{"checkpoint":{"version"')
    assert shelf.all(TENANT) == made and shelf.last(TENANT) == made[1] and shelf.last("globex") is None
    shelf.put(made[0])
    assert load_checkpoints(shelf.path(TENANT)) == [*made, made[0]]
    for name, said in (("none", None), ("empty", b"")):
        if said is not None:
            (tmp_path / name).write_bytes(said)
        with pytest.raises(BadCheckpoint):
            load_checkpoints(tmp_path / name)
