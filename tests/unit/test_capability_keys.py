"""The files behind capabilities: made once, for their owner only, changed without a gap, and never taken on trust."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra import capability_keys
from infra.capability_keys import CapabilityKeyError, GivenKey, KeysInFiles, make_capability_keys, parsed, public_file, rotate
from infra.local_stack import CAPABILITY_KEY, plan
from infra.settings import load
from infra.supervisor import secrets_of


def test_a_pair_is_made_once_and_belongs_to_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "capability.key"
    make_capability_keys(file)
    first = KeysInFiles(file)
    make_capability_keys(file)
    assert KeysInFiles(file).signing().id == first.signing().id
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert capability_keys.read_public(public_file(file)) == first.trusted() == {first.signing().id: first.signing().public}
    assert first.signing().public not in file.read_bytes()
    file.chmod(0o644)
    with pytest.raises(CapabilityKeyError, match="Others may read"):
        KeysInFiles(file)


def test_a_new_key_signs_at_once_and_the_old_one_stays_good_until_it_is_withdrawn(tmp_path: Path) -> None:
    file = tmp_path / "capability.key"
    make_capability_keys(file)
    running = KeysInFiles(file)
    old = running.signing().id
    new = rotate(file).id
    assert running.signing().id == new != old
    assert list(running.trusted()) == [new, old]
    for _ in range(3):
        new = rotate(file).id
    assert len(running.trusted()) == capability_keys.KEPT and next(iter(running.trusted())) == new
    last = rotate(file, withdraw=True).id
    assert list(running.trusted()) == [last]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_keys_may_be_given_as_text(tmp_path: Path) -> None:
    file = tmp_path / "capability.key"
    make_capability_keys(file)
    pair = GivenKey(file.read_text().strip())
    assert pair.trusted() == KeysInFiles(file).trusted()
    assert parsed(capability_keys.shown(pair.trusted())) == pair.trusted()


def test_a_key_that_was_given_or_put_there_by_hand_is_found_by_the_hosts_too(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "capability.key", tmp_path / "elsewhere.key"
    for each in (file, elsewhere):
        make_capability_keys(each)
    before, given = KeysInFiles(file).signing(), GivenKey(elsewhere.read_text().strip()).signing()
    for _ in range(2):
        capability_keys.publish(file, given)
    assert list(capability_keys.read_public(public_file(file)) or {}) == [given.id, before.id]
    capability_keys.publish(tmp_path / "nowhere" / "capability.key", given)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("text", ["x", "abc=", "abc=AAAA", "0000000000000000=" + "A" * 43 + "="])
def test_a_public_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CapabilityKeyError, match="malformed"):
        parsed(text)


@pytest.mark.parametrize("text", ["{", "[]", '{"keys": 3}', '{"keys": {"a": 1}}'])
def test_a_public_file_that_is_damaged_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "capability.pub").write_text(text)
    with pytest.raises(CapabilityKeyError):
        capability_keys.read_public(tmp_path / "capability.pub")


def test_only_the_conductor_gets_the_key_that_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPABILITY_KEY, "a-secret")
    planned = plan(load({"home": str(tmp_path)}, directory=tmp_path))
    assert "a-secret" not in planned.environment.values()
    assert secrets_of(planned, "conductor")[CAPABILITY_KEY] == "a-secret"
    for service in planned.services.keys() - {"conductor"}:
        assert secrets_of(planned, service)[CAPABILITY_KEY] == ""
