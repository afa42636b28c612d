"""The public sets: one file each, with its traps handled in it. Data are read from a folder; none come with Milepost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, TypeAlias

from schemas.errors import MilepostError
from services.datasets.example import Row

Use: TypeAlias = Literal["training", "evaluation"]
"""What a part is for. Nothing is ever trained on a part for evaluation, and mixing refuses it."""


class SetMissing(MilepostError):
    """A set is not where it was looked for."""

    def __init__(self, name: str, path: Path, home: str) -> None:
        super().__init__(
            f"{path} does not exist.", why=f"the data of {name} are not part of Milepost",
            hint=f"get them from {home} and name the folder that holds {name}/: --data FOLDER",
        )  # fmt: skip
        self.path = path


@dataclass(frozen=True)
class DataSet:
    """One public set. parts: each part's name and what it is for; home: where it is published.

    read: the rows of a part, given the folder of this set; lazily, in the order of the files. Raises SetMissing.
    """

    name: str
    title: str
    licence: str
    languages: tuple[str, ...]
    home: str
    parts: Mapping[str, Use]
    read: Callable[[Path, str], Iterator[Row]]


NAMES = (
    "api-bank", "bfcl", "crosswoz", "glaive-demo", "hammerbench", "metatool", "msagent-bench", "nestful", "restbench",
    "rotbench", "seal-tools", "sgd", "tau2", "toolalpaca", "toolrl", "tooltalk",
)  # fmt: skip


def data_set(name: str) -> DataSet:
    """A set by its name, which is its folder's, too. Raises MilepostError for one that nobody knows."""
    if name not in NAMES:
        raise MilepostError(f"There is no data set {name!r}.", why=f"there are {', '.join(NAMES)}", hint="milepost dataset ls")
    found: DataSet = import_module(f"{__name__}.{name.replace('-', '_')}").SET
    return found
