from __future__ import annotations

from pathlib import Path

import pytest

from infra import settings
from infra.settings import MASK, SettingsError, load


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("MILEPOST_")]:
        monkeypatch.delenv(name)


def _write(folder: Path, text: str) -> Path:
    file = folder / "milepost.toml"
    file.write_text(text)
    return file


def test_without_anything_set_every_value_is_a_default(tmp_path: Path) -> None:
    loaded = load(directory=tmp_path)

    assert loaded.file is None
    assert loaded.settings.home == tmp_path / ".milepost"
    assert loaded.settings.nats.url is None
    assert {origin.kind for _, _, origin in loaded.rows()} == {"default"}


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _write(tmp_path, 'tenant = "from-file"\nlanguage = "zh"\nlog_level = "error"\n')
    monkeypatch.setenv("MILEPOST_TENANT", "from-env")
    monkeypatch.setenv("MILEPOST_LOG_LEVEL", "warning")

    loaded = load({"tenant": "from-flag", "log_level": None}, directory=tmp_path)

    assert (loaded.settings.tenant, loaded.settings.log_level, loaded.settings.language) == ("from-flag", "warning", "zh")
    origins = {key: str(origin) for key, _, origin in loaded.rows()}
    assert origins["tenant"] == "flag --tenant"
    assert origins["log_level"] == "environment MILEPOST_LOG_LEVEL"
    assert origins["language"] == f"file {file}"
    assert origins["log_format"] == "default"


def test_groups_merge_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, '[cloud]\nregion = "cn-beijing"\nendpoint = "127.0.0.1:1"\n[services]\nllm = 2\n')
    monkeypatch.setenv("MILEPOST_CLOUD_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("MILEPOST_SERVICES_TOOLS", "3")

    loaded = load({"cloud.region": "cn-hongkong"}, directory=tmp_path).settings

    assert (loaded.cloud.region, loaded.cloud.endpoint, loaded.cloud.access_key_id) == ("cn-hongkong", "127.0.0.1:1", "id")
    assert (loaded.services.llm, loaded.services.tools, loaded.services.memory) == (2, 3, 1)


def test_the_file_is_found_in_a_parent_and_the_data_directory_is_beside_it(tmp_path: Path) -> None:
    file = _write(tmp_path, 'home = "data"\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)

    loaded = load(directory=inner)

    assert loaded.file == file
    assert loaded.settings.home == tmp_path / "data"
    assert load({"home": "data"}, directory=inner).settings.home == inner / "data"


def test_an_unknown_key_is_named_with_its_file_and_what_was_meant(tmp_path: Path) -> None:
    file = _write(tmp_path, '[nats]\nurll = "nats://h:1"\n')

    with pytest.raises(SettingsError) as caught:
        load(directory=tmp_path)

    assert caught.value.key == "nats.urll"
    assert str(file) in str(caught.value)
    assert "did you mean nats.url?" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[model]\nthreads = 0\n", "model.threads"),
        ('[nats]\nurl = "http://h"\n', "nats.url"),
        ('tenant = "a.b"\n', "tenant"),
        ("nats = 3\n", "nats"),
        ('[services]\nllm = "many"\n', "services.llm"),
        ("[home]\nx = 1\n", "home"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_and_what_to_change(tmp_path: Path, text: str, key: str) -> None:
    file = _write(tmp_path, text)

    with pytest.raises(SettingsError) as caught:
        load(directory=tmp_path)

    assert caught.value.key == key
    assert caught.value.hint == f"change {key} in {file}"
    assert caught.value.why


def test_a_wrong_variable_and_a_wrong_flag_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--log-level"):
        load({"log_level": "loud"}, directory=tmp_path)

    monkeypatch.setenv("MILEPOST_MODEL_THREADS", "two")
    with pytest.raises(SettingsError, match="unset MILEPOST_MODEL_THREADS"):
        load(directory=tmp_path)

    monkeypatch.delenv("MILEPOST_MODEL_THREADS")
    monkeypatch.setenv("MILEPOST_SERVICES", "5x")
    with pytest.raises(SettingsError, match="MILEPOST_SERVICES"):
        load(directory=tmp_path)


def test_a_scalar_in_a_file_does_not_hide_behind_a_variable_of_its_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _write(tmp_path, 'nats = "nats://h:1"\n')
    monkeypatch.setenv("MILEPOST_NATS_URL", "nats://other:1")

    assert load(directory=tmp_path).settings.nats.url == "nats://other:1"


def test_a_broken_file_says_where(tmp_path: Path) -> None:
    file = _write(tmp_path, "tenant = \n")

    with pytest.raises(SettingsError) as caught:
        load(directory=tmp_path)

    assert str(file) in caught.value.what
    assert "line 1" in caught.value.why


def test_secrets_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MILEPOST_CLOUD_ACCESS_KEY_SECRET", "hush-1")
    monkeypatch.setenv("MILEPOST_NATS_URL", "nats://me:hush-2@host:4222")
    monkeypatch.setenv("MILEPOST_POSTGRES_URL", "postgresql://me:hush-3@host/db")

    loaded = load(directory=tmp_path)
    rows = {key: value for key, value, _ in loaded.rows()}

    assert rows["cloud.access_key_secret"] == MASK
    assert rows["nats.url"] == f"nats://me:{MASK}@host:4222"
    assert "hush" not in str(rows)
    assert "hush-1" not in repr(loaded.settings)


def test_a_refused_secret_is_not_repeated(tmp_path: Path) -> None:
    _write(tmp_path, "[cloud]\naccess_key_secret = 271828\n")

    with pytest.raises(SettingsError) as caught:
        load(directory=tmp_path)

    assert "271828" not in str(caught.value)


def test_another_process_gets_the_same_settings_by_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _write(tmp_path, '[cloud]\naccess_key_secret = "s"\ndemo = false\n[services]\nllm = 2\n')
    first = load({"model.threads": 3}, directory=tmp_path)

    for name, value in first.environment().items():
        monkeypatch.setenv(name, value)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "milepost.toml").unlink()

    assert load(directory=elsewhere).settings == first.settings


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    loaded = load(directory=tmp_path).settings

    with pytest.raises(ValueError, match="frozen"):
        loaded.tenant = "other"  # type: ignore[misc]


def test_every_variable_name_leads_back_to_its_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    samples = {"cloud.access_key_id": "x", "log_level": "debug", "model.home": "/m", "nats.sync_always": "false"}
    for key, value in samples.items():
        monkeypatch.setenv(settings.variable(key), value)

    origins = load(directory=tmp_path).origins

    assert set(origins) == set(samples)
