"""From trained weights to a model that agents can be given: merged, built, put into the catalogue, and examined.

A candidate that does worse than its base at an examination, by more than a bound allows, does not stay.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from infra.models.adapters import CONFIG, LARGEST, TENSORS, Trained, card_of
from infra.models.build import OnBytes, silent
from schemas.canonical import JsonObject
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.models.catalogue import ModelCard

# Who examines: the scores of a model at a benchmark, each 0 to 100 and better when higher, by the metric's name.
Examine: TypeAlias = Callable[[str, str], Awaitable[Mapping[str, float]]]
OnStage: TypeAlias = Callable[[str], None]

WITHIN = ("final", "best")  # where a run's folder holds what was trained, the better one first


class NotPublished(MilepostError):
    """Trained weights cannot become a model."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A metric at which a candidate may be at most so many points worse than its base."""

    benchmark: str
    metric: str
    points: float = 1.0


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of a bound: points of the base and of the candidate."""

    bound: Bound
    base: float
    candidate: float

    @property
    def holds(self) -> bool:
        """Whether the candidate may stay."""
        return self.candidate >= self.base - self.bound.points

    def told(self) -> JsonObject:
        """For the model's card."""
        return {
            "benchmark": self.bound.benchmark, "metric": self.bound.metric, "base": self.base, "candidate": self.candidate,
            "allowed": self.bound.points, "holds": self.holds,
        }  # fmt: skip


class GateShut(MilepostError):
    """A candidate did worse than its base. scores: all of them."""

    def __init__(self, name: str, scores: Sequence[Scored]) -> None:
        worse = [each for each in scores if not each.holds]
        said = "; ".join(
            f"{each.bound.benchmark} {each.bound.metric}: {each.candidate:.1f} against {each.base:.1f} "
            f"(at most {each.bound.points:g} points less)" for each in worse
        )  # fmt: skip
        super().__init__(
            f"{name} does worse than its base and was not kept.", why=said,
            hint="train on more, or on other data; a wider --allow, or --gate none, keeps it all the same",
        )  # fmt: skip
        self.scores = tuple(scores)


@dataclass(frozen=True)
class Source:
    """Trained weights. folder: an adapter, or a whole model; card: what is known of them."""

    folder: Path
    card: Trained
    whole: bool


@dataclass(frozen=True)
class Published:
    """What came of it. scores: of the gate, empty where nobody examined."""

    card: ModelCard
    scores: tuple[Scored, ...]


def find_source(path: Path, base: str | None, home: Path) -> Source:
    """The trained weights in a folder, or in a run's: that of an adapter, or a whole model. Raises NotPublished, BadCard.

    base: in place of the card's, for weights that have none.
    """
    from infra.training.base import base as base_of
    from infra.training.merging import is_whole_model

    folder = next((each for each in (path, *(path / name for name in WITHIN)) if _is_trained(each)), None)
    if folder is None:
        raise NotPublished(
            f"{path} holds nothing that was trained.", why=f"neither {TENSORS} nor config.json with model.safetensors is there",
            hint="name the folder that milepost train wrote, an adapter of peft's, or what milepost models merge wrote",
        )  # fmt: skip
    card = card_of(folder) or card_of(path)
    whole = is_whole_model(folder)
    if card is None:
        if base is None:
            raise NotPublished(
                f"It is not known what {path} was trained upon.", why="no card.json is there", hint="name it: --base MODEL"
            )
        model = base_of(base, home)
        card = Trained(
            name=path.name, base=model.name, base_sha256=model.sha256, base_weights=model.weights,
            method="full" if whole else "lora", licence=model.licence, languages=model.languages,
        )  # fmt: skip
    if base is not None and base != card.base:
        raise NotPublished(f"{path} was trained upon {card.base}, not {base}.", hint=f"--base {card.base}")
    return Source(folder, card, whole)


def _is_trained(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or (folder / "config.json").is_file()


async def publish(
    source: Source, name: str, *, home: Path, precision: str = "int8", examine: Examine | None = None,
    bounds: Sequence[Bound] = (), on_stage: OnStage = lambda _: None, on_bytes: OnBytes = silent,
) -> Published:  # fmt: skip
    """Merge, build, register under a name, examine; nothing is left of what fails on the way, or does not pass.

    examine: None leaves the gate open, which the card says. Raises NotAdded, BadAdapter, WrongBase, NoBase, BuildFailed,
    UnsupportedModel, GateShut, and what an examination raises.
    """
    from infra.models.added import remove
    from infra.models.adding import add
    from infra.training.base import base as base_of
    from infra.training.merging import merge

    trained = source.card
    base = base_of(trained.base, home)
    with tempfile.TemporaryDirectory(prefix=".merged-", dir=home) as scratch:
        merged = source.folder
        if not source.whole:
            on_stage("merge")
            merged = await asyncio.to_thread(merge, source.folder, base, Path(scratch) / name)
        on_stage("build")
        made = await add(
            merged, home=home, name=name, chat=base.chat, licence=trained.licence, precision=precision, trained=trained,
            added_from=str(source.folder.resolve()), on_bytes=on_bytes,
        )  # fmt: skip
    try:
        scores = await _examined(made.name, trained.base, examine, bounds, on_stage)
        if any(not each.holds for each in scores):
            raise GateShut(name, scores)
    except BaseException:
        await asyncio.to_thread(remove, made.name, home)
        raise
    return Published(_record(made, scores, examine is not None, home), scores)


async def _examined(
    candidate: str, base: str, examine: Examine | None, bounds: Sequence[Bound], on_stage: OnStage
) -> tuple[Scored, ...]:  # fmt: skip
    if examine is None:
        return ()
    on_stage("gate")
    found: list[Scored] = []
    for benchmark in dict.fromkeys(bound.benchmark for bound in bounds):
        theirs, ours = await examine(base, benchmark), await examine(candidate, benchmark)
        for bound in bounds:
            if bound.benchmark == benchmark:
                if missing := [who for who, told in ((base, theirs), (candidate, ours)) if bound.metric not in told]:
                    known = ", ".join(sorted(ours)) or "none"
                    raise NotPublished(
                        f"{benchmark} has no metric {bound.metric!r} for {missing[0]}.", why=f"its metrics are {known}",
                        hint="--allow BENCHMARK:METRIC=POINTS",
                    )  # fmt: skip
                found.append(Scored(bound, theirs[bound.metric], ours[bound.metric]))
    return tuple(found)


def _record(made: ModelCard, scores: Sequence[Scored], examined: bool, home: Path) -> ModelCard:
    """Write into the model's card how the gate was passed, or that nobody stood at it."""
    from infra.models.added import CARD, Card, read_card

    path = home / made.name / CARD
    card = Card.model_validate_json(path.read_bytes())
    if card.trained is not None:
        gate: JsonObject = {"examined": examined, "scores": [each.told() for each in scores]}
        card = card.model_copy(update={"trained": card.trained.model_copy(update={"gate": gate})})
        path.write_text(card.model_dump_json(indent=1), encoding="utf-8")
    return read_card(made.name, home) or made


def seal(folder: Path, card: Trained) -> Trained:
    """Write an adapter's card with the sum and size of its tensors beside them; the card as it was written."""
    tensors = folder / TENSORS
    if tensors.is_file():
        with tensors.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        card = card.model_copy(update={"sha256": sha256, "size": tensors.stat().st_size})
    card.write(folder)
    return card


def fits_in_repository(card: Trained) -> bool:
    """Whether an adapter is small enough to be committed."""
    return 0 < card.size <= LARGEST
