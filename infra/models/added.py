"""Models that a person added: one folder each in the models' home, with a card and links to the files where they lie.

`<home>/<name>/card.json` says what it is and pins every file; `<home>/<name>/source/` holds the files, as hard links
where the disk allows it, else as symbolic ones.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.models.adapters import Trained
from infra.models.catalogue import CATALOGUE, Folder, ModelCard, ModelFile
from infra.models.remote import DEFAULT, remotes
from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.ids import Token, checked_token

CARD = "card.json"
SOURCE = "source"
WHOLE = re.compile(r"^(config|generation_config|tokenizer|tokenizer_config)\.json$|^model.*\.safetensors(\.index\.json)?$")
BESIDE = re.compile(r"^(chat_template\.jinja|README\.md|tokenizer\.model)$")


class NotAdded(MilepostError):
    """A file or folder cannot be added as a model."""


class PinnedFile(BaseModel):
    """A file of the source folder. name: its path in there."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[^/\\]+$")
    size: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Card(BaseModel):
    """What is remembered of an added model. gguf: the file it consists of; None for a Hugging Face folder.

    trained: what is known of its training, for one that was trained or comes as an adapter.
    """

    model_config = ConfigDict(frozen=True)

    name: Token
    title: str
    added_from: str
    files: tuple[PinnedFile, ...] = Field(min_length=1)
    gguf: str | None = Field(pattern=r"^[^/\\]+$")
    licence: str
    languages: tuple[str, ...]
    context: int = Field(ge=1)
    chat: JsonObject
    precision: str
    exporter: Literal["optimum"] | None = None
    trained: Trained | None = None

    def model_card(self) -> ModelCard:
        """The card as the catalogue would have it."""
        size = sum(file.size for file in self.files)
        where = (Folder(Path(self.added_from)),)
        parts = tuple(ModelFile(f"{SOURCE}/{file.name}", file.size, file.sha256, where) for file in self.files)
        whole = ModelFile(SOURCE if self.gguf is None else f"{SOURCE}/{self.gguf}", size, sum_of(self.files), where)
        like = CATALOGUE.get(self.trained.base) if self.trained else None
        return ModelCard(
            name=self.name, title=self.title, kind="text", file=whole, licence=self.licence, languages=self.languages,
            context=self.context, memory=like.memory if like else 2 * size, chat=self.chat, precision=self.precision,
            parts=parts, exporter=self.exporter, added_from=self.added_from, trained=self.trained,
            wire=self.trained.wire if self.trained else "json",
        )  # fmt: skip


@dataclass(frozen=True)
class Source:
    """What is to be added: files of one folder, and the GGUF file that it is, if it is one."""

    folder: Path
    names: tuple[str, ...]
    gguf: str | None

    @property
    def path(self) -> Path:
        """The GGUF file, or the folder."""
        return self.folder / self.gguf if self.gguf else self.folder


def sum_of(files: Iterable[PinnedFile]) -> str:
    """One SHA-256 for a model: of its only file, or of the list of its files' sums."""
    listed = sorted((file.name, file.sha256) for file in files)
    if len(listed) == 1:
        return listed[0][1]
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in listed).encode()).hexdigest()


def added(home: Path) -> Iterator[ModelCard]:
    """The cards of this home, by name. Raises MilepostError for one that cannot be read."""
    for path in sorted(home.glob(f"*/{CARD}")):
        if card := read_card(path.parent.name, home):
            yield card


def read_card(name: str, home: Path) -> ModelCard | None:
    """The card of an added model, None if there is none of that name."""
    path = home / name / CARD
    if Path(name).name != name or not path.is_file():
        return None
    try:
        return Card.model_validate_json(path.read_text(encoding="utf-8")).model_card()
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise MilepostError(f"{path} cannot be read.", why=str(error)[:300], hint=f"milepost models rm {name}") from error


def source_of(path: Path) -> Source:
    """The files that make a model at a place. Raises NotAdded."""
    hint = "name a GGUF file, or a folder with config.json, tokenizer.json and model.safetensors"
    path = path.expanduser().absolute()
    if path.is_file():
        if path.stat().st_size == 0:
            raise NotAdded(f"{path} cannot be added.", why="it is empty", hint=hint)
        return Source(path.parent, (path.name,), path.name)
    if not path.is_dir():
        raise NotAdded(f"{path} cannot be added.", why="nothing is there", hint=hint)
    there = sorted(each.name for each in path.iterdir() if each.is_file())
    if "config.json" not in there:
        ggufs = [name for name in there if name.endswith(".gguf")]
        if len(ggufs) == 1:
            return Source(path, (ggufs[0],), ggufs[0])
        why = f"it holds {len(ggufs)} GGUF files" if ggufs else "the folder has no config.json"
        raise NotAdded(f"{path} cannot be added.", why=why, hint=hint)
    return Source(path, tuple(name for name in there if WHOLE.match(name) or BESIDE.match(name)), None)


def free_name(wanted: str | None, source: Source, home: Path) -> str:
    """The name of the new model: the one that was wanted, or one made of the file's. Raises NotAdded, ProtocolError."""
    made = re.sub(r"[^a-z0-9_-]+", "-", source.path.name.lower().removesuffix(".gguf")).strip("-")[:64]
    if wanted is None and not made:
        raise NotAdded(f"No name can be made of {source.path.name}.", why="it has no letter of a-z", hint="give it one: --name")
    name = checked_token(wanted if wanted is not None else made, "model name")
    hint = f"choose another --name, or first: milepost models rm {name}"
    if name in CATALOGUE:
        raise NotAdded(f"{name} is a model of the catalogue.", hint="choose another --name")
    if name == DEFAULT:
        raise NotAdded(
            f"No model can be called {name}.",
            why="to agents that is the model of MILEPOST_MODEL_NAME",
            hint="choose another --name",
        )
    if name in remotes(home):
        raise NotAdded(f"{name} is a remote model.", hint=hint)
    if (home / name).exists():
        raise NotAdded(f"There is a model {name} already.", hint=hint)
    return name


def pin(source: Source) -> tuple[PinnedFile, ...]:
    """Sizes and sums of all files, read once."""
    pinned = []
    for name in source.names:
        with (source.folder / name).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            pinned.append(PinnedFile(name=name, size=os.fstat(file.fileno()).st_size, sha256=sha256))
    return tuple(pinned)


@contextmanager
def registered(card: Card, source: Source, home: Path) -> Iterator[Path]:
    """The model's folder with its card and its files in it; gone again if what follows fails."""
    folder = home / card.name
    try:
        (folder / SOURCE).mkdir(parents=True)
    except FileExistsError as error:
        raise NotAdded(f"There is a model {card.name} already.", hint="choose another --name") from error
    try:
        for name in source.names:
            link(source.folder / name, folder / SOURCE / name)
        (folder / CARD).write_text(card.model_dump_json(indent=1), encoding="utf-8")
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def link(origin: Path, target: Path) -> None:
    """Make a file appear at another place without a copy."""
    try:
        target.hardlink_to(origin.resolve())
    except OSError:  # another disk, or one that has no hard links
        target.symlink_to(origin.resolve())


def remove(name: str, home: Path) -> None:
    """Forget an added model and what was built of it; its files stay where they came from. Raises NotAdded."""
    if name in CATALOGUE:
        raise NotAdded(
            f"{name} is a model of the catalogue.", hint=f"its files are in {home / name}; it is fetched when it is used"
        )
    if Path(name).name != name or not (home / name / CARD).is_file():
        raise NotAdded(f"No model {name} was added.", hint="milepost models ls")
    shutil.rmtree(home / name)
