"""What lies in the folder of a training run: all that a machine with torch needs, and afterwards what came of it.

plan.json: what the trainer is asked, its paths within the folder; run.json: what the plan does not say; train.npz, dev.npz:
token files; trainer/: the trainer's own code, so that any Python with torch runs it; base/: the model, where the folder is to
be carried. Of the trainer: metrics.jsonl, checkpoints/, best/, final/, result.json. Of ours: trainer.log, report.html.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.messages import Wire
from services.training.plan import Plan

if TYPE_CHECKING:
    from infra.models.adapters import Trained
    from infra.training.base import Base

PLAN, NOTES, TRAINER, BASE, LOG, REPORT = "plan.json", "run.json", "trainer", "base", "trainer.log", "report.html"
TRAIN, DEV = "train.npz", "dev.npz"
METRICS, RESULT, FINAL, CHECKPOINTS = "metrics.jsonl", "result.json", "final", "checkpoints"
TO_RUN = f"PYTHONPATH={TRAINER} python -m services.training {PLAN}"
_SOURCE = Path(__file__).parents[2] / "services"


class BadRun(MilepostError):
    """A folder is no training run, or not the one that is asked for."""


class Notes(BaseModel):
    """What is remembered of a run beside its plan. data: the data sets with their sums and licences; tokens: of its parts."""

    model_config = ConfigDict(frozen=True)

    name: str
    model: str
    base_sha256: str
    base_weights: str
    wire: Wire
    licence: str
    languages: tuple[str, ...]
    data: tuple[JsonObject, ...]
    tokens: JsonObject = Field(default_factory=dict)
    made: str = ""

    @classmethod
    def of(cls, name: str, base: Base, wire: Wire, data: Iterable[JsonObject], tokens: JsonObject) -> Notes:
        """Of a run that is about to be prepared."""
        made = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(
            name=name, model=base.name, base_sha256=base.sha256, base_weights=base.weights, wire=wire, licence=base.licence,
            languages=base.languages, data=tuple(data), tokens=tokens, made=made,
        )  # fmt: skip


def prepare(folder: Path, plan: Plan, notes: Notes, tokens: tuple[Path, Path | None], carried: Path | None = None) -> None:
    """Write a run down. plan: its base as the machine that trains will find it; carried: a base to take along instead.

    Raises BadRun where the folder holds a run already, or cannot be written.
    """
    if (folder / PLAN).exists():
        hint = f"go on with it: milepost train --out {folder} --resume; or name another --out"
        raise BadRun(f"{folder} holds a run already.", why=PLAN, hint=hint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, name in zip(tokens, (TRAIN, DEV), strict=True):
            if source is not None:
                _link(source, folder / name)
        if carried is not None:
            (folder / BASE).mkdir(exist_ok=True)
            for file in carried.iterdir():
                _link(file, folder / BASE / file.name)
        write_code(folder)
        (folder / NOTES).write_text(notes.model_dump_json(indent=1) + "\n", encoding="utf-8")
        plan.write(folder / PLAN)
    except OSError as error:
        raise BadRun(
            f"{folder} cannot be written.", why=error.strerror or str(error), hint="--out names another folder"
        ) from error


def write_code(folder: Path) -> None:
    """The trainer as this version has it: only its own package, which imports nothing of ours beside itself."""
    place = folder / TRAINER / "services"
    shutil.rmtree(folder / TRAINER, ignore_errors=True)
    (place / "training").mkdir(parents=True)
    shutil.copyfile(_SOURCE / "__init__.py", place / "__init__.py")
    for file in (_SOURCE / "training").glob("*.py"):
        shutil.copyfile(file, place / "training" / file.name)


def read_notes(folder: Path) -> tuple[Plan, Notes]:
    """The plan and the notes of a run. Raises BadRun."""
    hint = "name a folder that milepost train wrote"
    try:
        return Plan.read(folder / PLAN), Notes.model_validate_json((folder / NOTES).read_bytes())
    except OSError as error:
        name = Path(str(error.filename)).name
        raise BadRun(f"{folder} holds no training run.", why=f"{name}: {error.strerror}", hint=hint) from error
    except (ValueError, TypeError, ValidationError) as error:
        raise BadRun(f"The run in {folder} cannot be read.", why=str(error)[:300], hint=hint) from error


def events(folder: Path) -> list[JsonObject]:
    """What the trainer told, in its order; of updates that were done again after an interruption, the last telling."""
    told: dict[tuple[object, object], JsonObject] = {}
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a line that was being written when its process was killed
        if isinstance(event, dict):
            told.pop(key := (event.get("event"), event.get("step")), None)
            told[key] = event
    return list(told.values())


def result(folder: Path) -> JsonObject:
    """What the trainer says of a run that is over. Raises BadRun."""
    try:
        told = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = f"it is not over: milepost train --out {folder} --resume, or on its machine: {TO_RUN}"
        raise BadRun(f"{folder} holds no result.", why=getattr(error, "strerror", "") or str(error), hint=hint) from error
    if not isinstance(told, dict) or not (folder / FINAL).is_dir():
        raise BadRun(f"{folder} holds no result.", why=f"there is no folder {FINAL}", hint="bring it back whole")
    return cast("JsonObject", told)


def finish(folder: Path) -> Trained:
    """Write the card of what was trained beside its weights. Raises BadRun."""
    from infra.models.adapters import Trained
    from infra.models.publishing import seal

    plan, notes = read_notes(folder)
    told = result(folder)
    kept = ("reason", "steps", "best_step", "tokens", "weighted_tokens", "dev", "seconds", "tokens_per_second", "memory_mib",
            "device", "devices")  # fmt: skip
    asked = {key: value for key, value in json.loads((folder / PLAN).read_text(encoding="utf-8")).items()
             if key not in ("base", "train", "dev", "out")}  # fmt: skip
    return seal(folder / FINAL, Trained(
        name=notes.name, base=notes.model, base_sha256=notes.base_sha256, base_weights=notes.base_weights, method=plan.method,
        wire=notes.wire, data=notes.data, licence=notes.licence, languages=notes.languages, plan=asked,
        versions=cast("JsonObject", told.get("versions", {})), metrics={key: told[key] for key in kept if key in told},
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    ))  # fmt: skip


def about_data(data: Path) -> JsonObject:
    """What is remembered of a data set: its name, the sum of its card and training part, and what its card says."""
    from infra.datasets.card import CARD, read_card
    from infra.training.source import source

    train = source(data).train.path
    digest = hashlib.sha256()
    for path in [train] if data.is_file() else [data / CARD, train]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    card = read_card(data) if data.is_dir() else {}
    kept = ("set", "part", "title", "license", "home", "seed", "examples")
    said = {key: card[key] for key in kept if card.get(key)}
    sources = card.get("sources")
    if isinstance(sources, dict):
        said["sources"] = {
            str(name): {key: each[key] for key in ("taken", "license") if key in each}
            for name, each in sources.items() if isinstance(each, dict)
        }  # fmt: skip
    return cast("JsonObject", {"name": data.resolve().name, "sha256": digest.hexdigest(), **said})


def _link(source: Path, target: Path) -> None:
    """A file at another place, without a copy where the disk allows it."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
