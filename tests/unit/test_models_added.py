from __future__ import annotations

import os
from itertools import accumulate
from pathlib import Path

import pytest

from infra.models.added import Card, NotAdded, PinnedFile, free_name, pin, read_card, registered, remove, source_of, sum_of
from infra.models.build import BUILDERS, NoPrecision, built_folder, precision_for, precisions
from infra.models.catalogue import CATALOGUE, ModelElsewhere, UnknownModel, Wheels, find
from infra.models.fetch import ModelGone, ModelRefused, ensure, on_disk
from infra.models.hub import is_repository
from infra.models.remote import Remote, add_remote
from schemas.errors import MilepostError, ProtocolError
from services.llm.build import BUILDER
from services.llm.chat import CHATML, FORMATS


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "mine" / "My Model.Q4.gguf"
    path.parent.mkdir()
    path.write_bytes(b"GGUF and more")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def card_of(path: Path, name: str = "mine") -> Card:
    source = source_of(path)
    return Card(
        name=name, title="Mine", added_from=str(path), files=pin(source), gguf=source.gguf, licence="MIT", languages=(),
        context=256, chat=CHATML.model_dump(mode="json"), precision="int8",
    )  # fmt: skip


def test_every_text_model_of_the_catalogue_tells_how_it_is_built_and_spoken_to() -> None:
    for card in CATALOGUE.values():
        assert card.licence and card.languages and card.memory and card.context
        assert len(card.file.sha256) == 64
        if card.kind == "text":
            assert card.chat in FORMATS
            assert card.precision in precisions(card)


def test_wheels_of_the_catalogue_make_the_whole_file() -> None:
    for card in CATALOGUE.values():
        wheels = [source for source in card.file.sources if isinstance(source, Wheels)]
        assert [list(accumulate(part.size for part in each.parts))[-1] for each in wheels] == [card.file.size] * len(wheels)


def test_a_built_folder_is_looked_for_under_the_builder_that_writes_it() -> None:
    assert BUILDERS["text"] == BUILDER


def test_an_added_model_is_found_beside_the_catalogue(gguf: Path, home: Path) -> None:
    with registered(card_of(gguf), source_of(gguf), home) as folder:
        pass
    card = find("mine", home)
    assert (card.licence, card.context, card.added_from) == ("MIT", 256, str(gguf))
    assert (home / "mine" / card.file.name).read_bytes() == gguf.read_bytes()
    assert card.file.sha256 == card.parts[0].sha256
    assert built_folder(card, home, "int4").parent == folder
    with pytest.raises(UnknownModel, match="added were mine"):
        find("yours", home)


def test_nothing_is_left_of_a_model_that_fails_on_the_way(gguf: Path, home: Path) -> None:
    with pytest.raises(ValueError, match="broken"), registered(card_of(gguf), source_of(gguf), home):
        raise ValueError("broken")
    assert not (home / "mine").exists()
    assert gguf.exists()


def test_forgetting_a_model_leaves_its_file(gguf: Path, home: Path) -> None:
    with registered(card_of(gguf), source_of(gguf), home):
        pass
    remove("mine", home)
    assert read_card("mine", home) is None
    assert gguf.read_bytes() == b"GGUF and more"


@pytest.mark.parametrize("name", ["mine", "smollm2-135m", "../home", "..", ""])
def test_what_was_not_added_is_not_removed(name: str, home: Path) -> None:
    (home / "smollm2-135m").mkdir(parents=True)
    with pytest.raises(NotAdded):
        remove(name, home)
    assert (home / "smollm2-135m").exists()


def test_a_name_is_made_of_the_files(gguf: Path, home: Path) -> None:
    assert free_name(None, source_of(gguf), home) == "my-model-q4"
    assert free_name("Other_1", source_of(gguf), home) == "Other_1"


@pytest.mark.parametrize("name", ["a.b", "a b", "", "../x", "名", "x" * 65])
def test_a_name_that_is_no_token_is_refused(name: str, gguf: Path, home: Path) -> None:
    with pytest.raises(ProtocolError, match="model name"):
        free_name(name, source_of(gguf), home)


def test_a_name_that_is_taken_is_refused(gguf: Path, home: Path) -> None:
    with registered(card_of(gguf), source_of(gguf), home):
        pass
    add_remote(home, "far", Remote(base_url="http://host/v1", model="m"))
    for name, why in (("smollm2-135m", "catalogue"), ("mine", "already"), ("far", "remote")):
        with pytest.raises(NotAdded, match=why):
            free_name(name, source_of(gguf), home)


def test_a_file_without_a_letter_is_given_a_name(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "模型.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(NotAdded, match="No name") as refused:
        free_name(None, source_of(path), home)
    assert "--name" in refused.value.hint


def test_no_model_is_called_what_agents_call_the_one_that_is_set(gguf: Path, home: Path) -> None:
    with pytest.raises(NotAdded, match="default"):
        free_name("default", source_of(gguf), home)
    with pytest.raises(MilepostError, match="default"):
        add_remote(home, "default", Remote(base_url="http://host/v1", model="m"))


def test_a_remote_model_is_known_but_has_no_files_here(home: Path) -> None:
    add_remote(home, "far", Remote(base_url="http://host/v1", model="m"))
    with pytest.raises(ModelElsewhere, match="remote") as refused:
        find("far", home)
    assert (refused.value.why, refused.value.hint) == ("it speaks through http://host/v1", "milepost models show far")


def test_a_folder_is_the_files_that_make_a_model(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors", "README.md", "training.log", "model.bin"):
        (tmp_path / name).write_text(name)
    source = source_of(tmp_path)
    assert source.names == ("README.md", "config.json", "model.safetensors", "tokenizer.json")
    assert source.gguf is None
    pinned = pin(source)
    assert sum_of(pinned) == sum_of(reversed(pinned)) != sum_of(pinned[1:])


@pytest.mark.parametrize(
    ("files", "path", "why"),
    [
        ((), "gone.gguf", "nothing is there"),
        (("empty.gguf",), "empty.gguf", "it is empty"),
        (("tokenizer.json",), ".", "no config.json"),
        (("a.gguf", "b.gguf"), ".", "2 GGUF files"),
    ],
)
def test_what_makes_no_model_is_refused(files: tuple[str, ...], path: str, why: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(NotAdded, match=why):
        source_of(tmp_path / path)


def test_a_folder_with_one_gguf_file_is_that_file(gguf: Path) -> None:
    assert source_of(gguf.parent) == source_of(gguf)


async def test_the_files_of_an_added_model_are_verified(gguf: Path, home: Path) -> None:
    with registered(card_of(gguf), source_of(gguf), home):
        pass
    assert not on_disk("mine", home).verified
    await ensure("mine", home=home)
    assert on_disk("mine", home).verified
    gguf.write_bytes(b"GGUF and less")
    os.utime(gguf, ns=(1, 1))
    with pytest.raises(ModelRefused, match="milepost models rm mine"):
        await ensure("mine", home=home)


async def test_a_file_that_went_away_is_told(gguf: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with registered(card_of(gguf), source_of(gguf), home):
        pass
    await ensure("mine", home=home)
    gguf.unlink()
    with pytest.raises(ModelGone, match="was added from"):
        await ensure("mine", home=home)


def test_a_card_that_cannot_be_read_names_itself(home: Path) -> None:
    (home / "mine").mkdir(parents=True)
    (home / "mine" / "card.json").write_text("{")
    with pytest.raises(MilepostError, match="milepost models rm mine"):
        find("mine", home)


def test_pinned_names_cannot_leave_their_folder() -> None:
    with pytest.raises(ValueError, match="name"):
        PinnedFile(name="../x", size=1, sha256="0" * 64)


def test_a_precision_that_is_none_is_refused(home: Path) -> None:
    card = find("smollm2-135m")
    with pytest.raises(NoPrecision, match="int8"):
        built_folder(card, home, "int3")
    assert precision_for(card, "auto", "cpu") == "int8"
    assert precision_for(card, "int4", "cpu") == "int4"
    assert precision_for(card, "auto", "cuda") in ("fp16", "bf16")
    assert precision_for(find("multilingual-e5-small"), "int8", "cuda") == "int4"


@pytest.mark.parametrize(("text", "is_one"), [
    ("Qwen/Qwen3-0.6B", True), ("a/b/file.gguf", True), ("./a/b", False), ("a/../b", False), ("model", False),
    ("a/b/c/d.gguf", False),
])  # fmt: skip
def test_a_repository_is_owner_and_name(text: str, is_one: bool) -> None:
    assert is_repository(text) is is_one
