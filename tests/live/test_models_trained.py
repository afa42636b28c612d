"""Trained weights become models: published behind a gate, or made of an adapter that comes with Milepost."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.cli.models_trained import bound_of
from infra.models import adapters
from infra.models.adapters import Trained, card_of
from infra.models.added import NotAdded, read_card
from infra.models.adding import add
from infra.models.build import build
from infra.models.catalogue import NotMade, find
from infra.models.fetch import ensure
from infra.models.publishing import Bound, GateShut, NotPublished, find_source, publish
from infra.models.shipping import ship
from infra.training.adapters import BadAdapter
from infra.training.base import base
from schemas.errors import Mistyped
from services.llm.build import read_manifest
from services.llm.weights import Weights
from tests.support.adapters import write_adapter
from tests.support.own_models import hugging_face_folder
from tests.support.tiny_model import Tiny

TINY = Tiny.random("qwen2", tied=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models' home with a base in it, built once."""
    folder = tmp_path_factory.mktemp("built")
    asyncio.run(add(hugging_face_folder(folder / "tiny"), home=folder / "models", licence="mit"))
    return folder / "models"


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(built, tmp_path / "models"))


@pytest.fixture
def trained(home: Path, tmp_path: Path) -> Path:
    """An adapter of that base, with its card."""
    folder = write_adapter(tmp_path / "run" / "final", TINY)
    card = Trained(
        name="run", base="tiny", base_sha256=base("tiny", home).sha256, licence="mit", wire="hermes", languages=("en",)
    )
    card.write(folder)
    return folder.parent


def scores(candidate: float) -> tuple[list[tuple[str, str]], object]:
    """Who examines so: the base has 50 points."""
    asked: list[tuple[str, str]] = []

    async def examine(model: str, benchmark: str) -> Mapping[str, float]:
        asked.append((model, benchmark))
        return {"right": 50.0 if model == "tiny" else candidate}

    return asked, examine


async def test_trained_weights_become_a_model_that_remembers_its_training(home: Path, trained: Path) -> None:
    asked, examine = scores(49.0)
    stages: list[str] = []
    made = await publish(
        find_source(trained, None, home), "tuned", home=home, examine=examine, bounds=[Bound("some", "right", 2.0)],  # type: ignore[arg-type]
        on_stage=stages.append,
    )  # fmt: skip
    assert (stages, asked) == (["merge", "build", "gate"], [("tiny", "some"), ("tuned", "some")])
    card = find("tuned", home)
    assert card == made.card
    assert card.trained is not None
    assert card.trained.gate == {"examined": True, "scores": [
        {"benchmark": "some", "metric": "right", "base": 50.0, "candidate": 49.0, "allowed": 2.0, "holds": True},
    ]}  # fmt: skip
    built = await build("tuned", home)
    assert (read_manifest(built).wire, read_manifest(built).chat) == ("hermes", read_manifest(await build("tiny", home)).chat)
    ours, theirs = Weights(home / "tuned/source"), Weights(home / "tiny/source")
    assert (ours["blk.0.attn_q.weight"] != theirs["blk.0.attn_q.weight"]).any()
    assert (ours["blk.0.attn_k.weight"] == theirs["blk.0.attn_k.weight"]).all()
    assert not [path for path in home.iterdir() if path.name.startswith(".merged")]


async def test_what_does_worse_than_its_base_is_not_kept(home: Path, trained: Path) -> None:
    _, examine = scores(47.0)
    with pytest.raises(GateShut, match="worse than its base") as shut:
        await publish(
            find_source(trained, None, home), "tuned", home=home, examine=examine, bounds=[Bound("some", "right", 2.0)],  # type: ignore[arg-type]
        )  # fmt: skip
    assert "47.0 against 50.0" in shut.value.why
    assert not (home / "tuned").exists()


async def test_an_open_gate_is_written_down(home: Path, trained: Path) -> None:
    made = await publish(find_source(trained, "tiny", home), "tuned", home=home)
    assert made.card.trained is not None
    assert made.card.trained.gate == {"examined": False, "scores": []}


async def test_a_figure_that_nobody_measures_is_refused(home: Path, trained: Path) -> None:
    _, examine = scores(50.0)
    with pytest.raises(NotPublished, match="no metric 'f1'") as refused:
        await publish(find_source(trained, None, home), "tuned", home=home, examine=examine, bounds=[Bound("some", "f1")])  # type: ignore[arg-type]
    assert "right" in refused.value.why
    assert read_card("tuned", home) is None


async def test_a_whole_model_is_published_without_a_merge(home: Path, trained: Path, tmp_path: Path) -> None:
    whole = hugging_face_folder(tmp_path / "full", seed=5)
    with pytest.raises(NotPublished, match="not known"):
        find_source(whole, None, home)
    found = find_source(whole, "tiny", home)
    assert (found.whole, found.card.method) == (True, "full")
    stages: list[str] = []
    await publish(found, "full", home=home, on_stage=stages.append)
    assert stages == ["build"]


async def test_a_name_that_is_taken_is_refused_and_its_model_stays(home: Path, trained: Path) -> None:
    with pytest.raises(NotAdded):
        await publish(find_source(trained, None, home), "tiny", home=home)
    assert find("tiny", home).trained is None


def test_what_was_never_trained_is_refused(home: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotPublished, match="holds nothing that was trained"):
        find_source(tmp_path / "empty", "tiny", home)
    with pytest.raises(NotPublished, match="trained upon tiny, not smollm2-135m"):
        find_source(trained, "smollm2-135m", home)


def test_gates_as_a_person_writes_them() -> None:
    assert bound_of("bfcl") == Bound("bfcl", "right", 2.0)
    assert bound_of("bfcl:live/argument_f1=0.5") == Bound("bfcl:live", "argument_f1", 0.5)
    for wrong in ("", "none", "bfcl=x", "bfcl=-1", "=3"):
        with pytest.raises(Mistyped):
            bound_of(wrong)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the adapters that come with Milepost would lie."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(adapters, "SHIPPED", folder)
    return folder


async def test_an_adapter_that_comes_along_is_made_when_it_is_wanted(home: Path, trained: Path, kept: Path) -> None:
    card = ship(trained, "controller")
    assert (card_of(kept / "controller"), card.name) == (card, "controller")
    assert "milepost models pull controller" in (kept / "controller/README.md").read_text()
    with pytest.raises(NotMade) as unmade:
        find("controller", home)
    assert unmade.value.hint == "milepost models pull controller"
    await ensure("controller", home=home)
    made = find("controller", home)
    assert (made.wire, made.licence, made.added_from) == ("hermes", "mit", "adapter controller")
    modified = (home / "controller/card.json").stat().st_mtime_ns
    await ensure("controller", home=home)
    assert (home / "controller/card.json").stat().st_mtime_ns == modified
    write_adapter(trained / "final", TINY, seed=9)
    ship(trained, "controller")
    await ensure("controller", home=home)  # another state of the adapter is another model
    assert (home / "controller/card.json").stat().st_mtime_ns > modified


def test_an_adapter_that_is_too_large_does_not_come_along(
    trained: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(adapters, "LARGEST", 100)
    with pytest.raises(BadAdapter, match="MiB in bfloat16"):
        ship(trained, "controller")
    assert list(kept.iterdir()) == []


def test_the_adapters_of_this_repository_are_whole_and_small_enough() -> None:
    for name, card in adapters.shipped().items():
        folder = adapters.SHIPPED / name
        assert card.name == name
        assert 0 < card.size <= adapters.LARGEST
        assert card.size == (folder / adapters.TENSORS).stat().st_size
        assert card.data and all(each.get("license") for each in card.data)
        assert json.loads((folder / adapters.CONFIG).read_text())["peft_type"] == "LORA"
