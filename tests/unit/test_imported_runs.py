"""Runs from elsewhere: checked, kept once, found again, and never written over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.exports.format import BadExport, CannotWrite
from infra.exports.imported import OtherBytes, copy_imported, import_run, imported_path, imported_runs, open_imported
from infra.exports.writing import Exported, save_export
from schemas.errors import ProtocolError
from schemas.ids import RunId
from tests.support.builders import NOW, run_of
from tests.support.exports import edited, lines_of, run_with_payloads, with_fields
from tests.unit.test_cli import Cli, cli

__all__ = ["cli"]


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    run, spool = await run_with_payloads()
    path = tmp_path / "taken.jsonl"
    save_export(path, Exported(run.id, lines_of(run), payloads=spool), NOW)
    return path


def test_a_run_is_imported_once_and_found(tmp_path: Path, file: Path) -> None:
    home = tmp_path / "home"
    assert imported_runs(home) == [] and open_imported(home, run_of()) is None

    first, again = import_run(home, file), import_run(home, file)

    assert (first.fresh, again.fresh, first.path) == (True, False, again.path)
    assert first.path.read_bytes() == file.read_bytes()
    assert (first.path.stat().st_mode & 0o777, first.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert imported_runs(home) == [first.export.run]
    found = open_imported(home, first.export.run)
    assert found and found.facts == first.export.facts and len(found.both) == len(found.facts)
    assert [each.name for each in first.path.parent.iterdir()] == [first.path.name]


def test_other_bytes_of_the_same_run_are_refused(tmp_path: Path, file: Path) -> None:
    before = import_run(tmp_path, file).path.read_bytes()
    later = edited(file.read_bytes(), lambda lines: [with_fields(lines[0], created="2026-12-01T00:00:00Z"), *lines[1:]])
    file.write_bytes(later)

    with pytest.raises(OtherBytes, match="other bytes") as refused:
        import_run(tmp_path, file)

    assert "rm " in refused.value.hint
    assert imported_path(tmp_path, run_of()).read_bytes() == before


def test_what_is_no_export_is_not_kept(tmp_path: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BadExport, match=str(file)):
        import_run(tmp_path, file)
    with pytest.raises(BadExport, match=str(tmp_path / "gone")):
        import_run(tmp_path, tmp_path / "gone")
    assert imported_runs(tmp_path) == [] and list((tmp_path / "imported").iterdir()) == []


def test_an_imported_file_that_was_changed_is_refused(tmp_path: Path, file: Path) -> None:
    path = import_run(tmp_path, file).path
    other = path.with_name(f"{run_of('other')}.jsonl")
    path.rename(other)
    with pytest.raises(BadExport, match="it holds the run"):
        open_imported(tmp_path, RunId(run_of("other")))
    other.write_bytes(other.read_bytes().replace(b"renewed", b"removed", 1))
    with pytest.raises(BadExport):
        open_imported(tmp_path, RunId(run_of("other")))


def test_a_name_that_is_no_run_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError):
        open_imported(tmp_path, RunId("../../etc/passwd"))


def test_an_imported_run_is_exported_as_it_came(tmp_path: Path, file: Path) -> None:
    source = import_run(tmp_path, file).path
    copy_imported(source, tmp_path / "copy.jsonl")
    assert (tmp_path / "copy.jsonl").read_bytes() == file.read_bytes()
    with pytest.raises(CannotWrite):
        copy_imported(source, tmp_path / "copy.jsonl")


def test_the_command_tells_what_it_imported(cli: Cli, file: Path) -> None:
    code, out, _ = cli("runs", "import", str(file), "--json")
    (said,) = json.loads(out)
    assert (code, said["fresh"], said["outcome"], said["payloads"], said["missing"]) == (0, True, "completed", 2, {})
    assert Path(said["file"]).is_file() and said["agent"] and said["task"]

    code, out, _ = cli("runs", "import", str(file))
    assert code == 0 and ("was there already" in out or said["file"] in out)

    file.write_bytes(b"{}")
    code, out, _ = cli("runs", "import", str(file), "--json")
    assert code == 1 and json.loads(out)["error"]["type"] == "BadExport"


@pytest.mark.parametrize("words", [(), ("202611-abc",), ("a", "b", "c")])
def test_export_asks_for_a_run_and_a_file(cli: Cli, words: tuple[str, ...]) -> None:
    code, _, err = cli("runs", "export", *words)
    assert code == 2 and "--parquet" in err
