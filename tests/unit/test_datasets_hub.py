"""A data set repository is fetched from a hub: what is data, whole or not at all, and from the next hub if one fails."""

from __future__ import annotations

import csv
import json
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from infra.cli import main, show
from infra.datasets.hub import PROVENANCE, HuggingFace, ModelScope, NotFetched, fetch
from services.datasets.example import Example, Skipped
from services.datasets.sets import SetMissing, data_set

NAME = "iic/MSAgent-Bench"


class Repository:
    """A hub with one repository, which answers as both hubs do. asked: the paths and ranges that were fetched."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, list[tuple[str, str | None]]()
        self.announced: dict[str, int] = {}
        self.sums = {name: sha256(content).hexdigest() for name, content in files.items()}

    def answer(self, target: str, start: str | None) -> tuple[int, bytes]:
        url, asked = urlsplit(target), parse_qs(urlsplit(target).query)
        if url.path == f"/api/v1/datasets/{NAME}/repo/tree":
            size = int(asked["PageSize"][0])
            first = (int(asked["PageNumber"][0]) - 1) * size
            sizes = {each: len(content) for each, content in self.files.items()} | self.announced
            names = [*self.files][first : first + size]
            listed = [{"Path": each, "Type": "blob", "Size": sizes[each], "Sha256": self.sums[each]} for each in names]
            return 200, orjson.dumps({"Code": 200, "Data": {"Files": [*listed, {"Path": "folder", "Type": "tree"}]}})
        if url.path == f"/api/datasets/{NAME}/tree/main":
            files = self.files.items()
            listed = [{"type": "file", "path": each, "size": len(of), "lfs": {"oid": self.sums[each]}} for each, of in files]
            return 200, orjson.dumps(listed)
        name = asked["FilePath"][0] if "FilePath" in asked else url.path.partition("/resolve/main/")[2]
        if name not in self.files:
            return 404, b""
        self.asked.append((name, start))
        begin = int(start.removeprefix("bytes=").removesuffix("-")) if start else 0
        return (206 if start else 200), self.files[name][begin:]


@pytest.fixture
def hub() -> Iterator[tuple[Repository, str]]:
    repository = Repository({})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, content = repository.answer(self.path, self.headers["Range"])
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield repository, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fill(repository: Repository, files: dict[str, bytes]) -> None:
    fresh = Repository(files)
    repository.files, repository.sums = fresh.files, fresh.sums


FILES = {
    "README.md": b"# Bench",
    "data/train.jsonl": b'{"a": 1}\n' * 500,
    "model.bin": b"x",
    "../evil.jsonl": b"x",
    ".hidden.json": b"x",
}


@pytest.mark.parametrize("kind", [ModelScope, HuggingFace])
async def test_the_data_files_are_fetched_and_nothing_else(
    kind: type[ModelScope] | type[HuggingFace], hub: tuple[Repository, str], tmp_path: Path
) -> None:
    repository, base = hub
    fill(repository, FILES)
    fetched = await fetch(NAME, tmp_path / "x", hubs=[kind(base)])
    assert {path.name for path in (tmp_path / "x").rglob("*") if path.is_file()} == {"README.md", "train.jsonl", PROVENANCE}
    assert (tmp_path / "x" / "data" / "train.jsonl").read_bytes() == FILES["data/train.jsonl"]
    assert fetched.files == {name: repository.sums[name] for name in ("README.md", "data/train.jsonl")}
    assert json.loads((tmp_path / "x" / PROVENANCE).read_text())["repository"] == NAME
    repository.asked.clear()
    await fetch(NAME, tmp_path / "x", hubs=[kind(base)])
    assert repository.asked == []  # whole already


async def test_a_part_goes_on_where_it_ended(hub: tuple[Repository, str], tmp_path: Path) -> None:
    repository, base = hub
    fill(repository, {"train.jsonl": FILES["data/train.jsonl"]})
    (tmp_path / "train.jsonl.part").write_bytes(FILES["data/train.jsonl"][:1000])
    await fetch(NAME, tmp_path, hubs=[ModelScope(base)])
    assert repository.asked == [("train.jsonl", "bytes=1000-")]
    assert (tmp_path / "train.jsonl").read_bytes() == FILES["data/train.jsonl"]
    assert not [*tmp_path.glob("*.part")]


async def test_a_long_listing_is_read_page_by_page(hub: tuple[Repository, str], tmp_path: Path) -> None:
    repository, base = hub
    fill(repository, {f"{place}.json": b"[]" for place in range(5)})
    assert len((await fetch(NAME, tmp_path, hubs=[ModelScope(base, page=2)])).files) == 5


async def test_the_next_hub_is_asked_and_each_ones_reason_told(hub: tuple[Repository, str], tmp_path: Path) -> None:
    repository, base = hub
    fill(repository, {"train.jsonl": b"{}"})
    assert (await fetch(NAME, tmp_path, hubs=[ModelScope("http://127.0.0.1:9"), HuggingFace(base)])).hub == "Hugging Face"
    with pytest.raises(NotFetched) as failed:
        await fetch("who/else", tmp_path, hubs=[ModelScope("http://127.0.0.1:9"), HuggingFace(base)])
    assert "ModelScope: ConnectError" in failed.value.why
    assert "404" in failed.value.why


async def test_a_file_of_another_sum_is_not_kept(hub: tuple[Repository, str], tmp_path: Path) -> None:
    repository, base = hub
    fill(repository, {"train.jsonl": b"{}"})
    repository.sums["train.jsonl"] = "0" * 64
    with pytest.raises(NotFetched, match="fetched") as failed:
        await fetch(NAME, tmp_path, hubs=[ModelScope(base)])
    assert "SHA-256" in failed.value.why
    assert not [*tmp_path.iterdir()]


async def test_more_than_announced_stops_the_download(hub: tuple[Repository, str], tmp_path: Path) -> None:
    repository, base = hub
    fill(repository, {"train.jsonl": b"x" * 5_000_000})
    repository.announced["train.jsonl"] = 1000
    with pytest.raises(NotFetched) as failed:
        await fetch(NAME, tmp_path, hubs=[ModelScope(base)])
    assert "more than the 1,000 bytes" in failed.value.why
    assert (tmp_path / "train.jsonl.part").stat().st_size < 2_000_000


@pytest.mark.parametrize(
    ("name", "largest", "why"), [("nobody", 9, "OWNER/NAME"), ("../x", 9, "OWNER/NAME"), (NAME, 9, "allowed are 9")]
)
async def test_what_may_not_be_fetched_is_refused_first(
    name: str, largest: int, why: str, hub: tuple[Repository, str], tmp_path: Path
) -> None:
    repository, base = hub
    fill(repository, {"train.jsonl": b"x" * 10})
    with pytest.raises(NotFetched) as failed:
        await fetch(name, tmp_path, hubs=[ModelScope(base)], largest=largest)
    assert why in failed.value.why
    assert repository.asked == []


async def test_a_repository_without_data_says_so(hub: tuple[Repository, str], tmp_path: Path) -> None:
    repository, base = hub
    fill(repository, {"model.bin": b"x"})
    with pytest.raises(NotFetched) as failed:
        await fetch(NAME, tmp_path, hubs=[HuggingFace(base)])
    assert "no data files" in failed.value.why


def test_the_command_fetches_a_set_and_tells_where_it_is(
    hub: tuple[Repository, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, base = hub
    fill(repository, FILES)

    def told(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["milepost", "dataset", "fetch", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, " ".join((said.out + said.err).split())

    out = str(tmp_path / "msagent-bench")
    code, said = told(NAME, "--out", out, "--from", base, "--json")
    assert (code or 0) == 0 and set(orjson.loads(said)["files"]) == {"README.md", "data/train.jsonl"}
    show._STATE["json"] = False
    assert (tmp_path / "msagent-bench" / "data" / "train.jsonl").read_bytes() == FILES["data/train.jsonl"]
    code, said = told(NAME, "--out", out, "--from", base, "--max-gb", "0")
    assert code == 1 and "too large" in said and "next:" in said
    assert "modelscope, huggingface or" in told(NAME, "--out", out, "--from", "nowhere")[1]


def test_what_was_fetched_is_read_as_msagent_bench(tmp_path: Path) -> None:
    turns = [{"from": "system", "value": "Help."}, {"from": "user", "value": "你好"}, {"from": "assistant", "value": "你好！"}]
    (tmp_path / "a_train.jsonl").write_bytes(orjson.dumps({"id": "1", "conversations": turns}) + b"\n{}\n")
    with (tmp_path / "b.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "conversations"), ("2", repr(turns)), ("3", "[" * 200_000)])
    (tmp_path / "dev.json").write_bytes(orjson.dumps([{"id": "4", "conversations": turns}]))
    (tmp_path / PROVENANCE).write_text("{}")
    train = [*data_set("msagent-bench").read(tmp_path, "train")]
    assert [(row.id, row.group, row.language) for row in train if isinstance(row, Example)] == [
        ("1", "a_train", "zh"), ("2", "b", "zh"),
    ]  # fmt: skip
    assert [row.why for row in train if isinstance(row, Skipped)] == [
        "conversations are no list", "conversations are a text that cannot be read",
    ]  # fmt: skip
    assert [row.id for row in data_set("msagent-bench").read(tmp_path, "dev") if isinstance(row, Example)] == ["4"]
    with pytest.raises(SetMissing):
        [*data_set("msagent-bench").read(tmp_path / "none", "train")]
