"""The card of a data set's folder, dataset.json: what it is made of, for whoever finds it, and for whoever trains on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

from schemas.errors import MilepostError

CARD = "dataset.json"


class NoDataset(MilepostError):
    """A folder holds no data set."""


class ForEvaluation(MilepostError):
    """What is examined on is never trained on."""

    def __init__(self, what: str, part: str) -> None:
        super().__init__(
            f"{what}, part {part}, is for evaluation.", why="a model that was trained on it cannot be examined on it",
            hint="milepost dataset ls shows which parts are for training",
        )  # fmt: skip


def read_card(folder: Path) -> dict[str, object]:
    """The card of a data set. Raises NoDataset."""
    hint = "milepost dataset build writes one"
    try:
        told = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except OSError as error:
        raise NoDataset(f"{folder} holds no data set.", why=f"{CARD}: {error.strerror or error}", hint=hint) from error
    except ValueError as error:
        raise NoDataset(f"{folder / CARD} cannot be read.", why=str(error), hint=hint) from error
    if not isinstance(told, dict):
        raise NoDataset(f"{folder / CARD} is no card.", why="it holds no object", hint=hint)
    return cast("dict[str, object]", told)


def write_card(folder: Path, card: Mapping[str, object]) -> None:
    """Written whole or not at all. Raises MilepostError where there is no room for it."""
    scratch = folder / f"{CARD}.part"
    try:
        scratch.write_text(json.dumps(card, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        scratch.replace(folder / CARD)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise unwritable(folder, error) from error


def check_trainable(folder: Path, part: str) -> dict[str, object]:
    """The card of a folder that may be trained on. Raises ForEvaluation and NoDataset."""
    card = read_card(folder)
    if card.get("use") == "evaluation":
        raise ForEvaluation(str(folder), part)
    return card


def unwritable(folder: Path, error: OSError) -> MilepostError:
    """What is said where a folder cannot be written: no right to, or no room left."""
    return MilepostError(
        f"{folder} cannot be written.",
        why=error.strerror or str(error),
        hint="--out names another folder; `df -h` shows the room",
    )
