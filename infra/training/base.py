"""A model that is here as a folder that transformers loads, made without torch and kept in the models' home.

A GGUF file is dequantised: what is trained is the model that its quantised weights stand for. A folder of safetensors is
taken as it is.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.models.catalogue import find
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.training.hugging_face import Kind
    from services.llm.chat import ChatFormat

FORM = "1"  # raise it when what is written changes


class NoBase(MilepostError):
    """A model cannot be trained."""


@dataclass(frozen=True)
class Base:
    """What training begins from. sha256: of the model's files; source: those; weights: the types they are stored in."""

    name: str
    sha256: str
    source: Path
    chat: ChatFormat
    licence: str
    languages: tuple[str, ...]
    weights: str

    @property
    def dequantised(self) -> bool:
        """Whether its weights were quantised before."""
        return self.source.is_file()


def base(name: str, home: Path) -> Base:
    """A fetched model of `models ls`. Raises UnknownModel, ModelElsewhere, NoBase."""
    from infra.models.build import chat_of

    card = find(name, home)
    source = home / card.name / card.file.name
    if card.kind != "text" or card.exporter:
        why = "it is an embedding model" if card.kind != "text" else f"its graph comes from {card.exporter}"
        raise NoBase(f"{name} cannot be trained.", why=why, hint="name a Llama, Qwen2 or Qwen3 model of: milepost models ls")
    if not source.exists():
        raise NoBase(f"{name} is not here.", why=f"{source} is missing", hint=f"milepost models pull {name}")
    return Base(card.name, card.file.sha256, source, chat_of(card), card.licence, card.languages, _stored(source))


def folder_of(model: Base, home: Path, *, kind: Kind = "fp32") -> Path:
    """The folder that transformers loads; a GGUF file is exported once (seconds, gigabytes) and kept in the models' home.

    kind: what its weights are widened to; fp32 keeps them exactly. Two processes may ask at once: one exports, the other
    waits. Raises NoBase, UnsupportedModel.
    """
    from filelock import FileLock

    if model.source.is_dir():
        return model.source
    parent = home / model.name
    folder = parent / f"hf-{model.sha256[:12]}-{FORM}-{kind}"
    try:
        with FileLock(parent / ".base.lock"):
            if not folder.exists():
                refuse_without_room(model, parent, kind)
                scratch = Path(tempfile.mkdtemp(prefix=".base-", dir=parent))
                try:
                    export(model.source, scratch, kind=kind)
                    scratch.rename(folder)
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise NoBase(f"{model.name} cannot be exported.", why=f"{parent}: {error.strerror or error}") from error
    return folder


def export(source: Path, folder: Path, *, kind: Kind = "fp32") -> None:
    """Write a GGUF file's config.json, model.safetensors and tokenizer into an empty folder. Raises UnsupportedModel."""
    from infra.training.hugging_face import write_folder

    write_folder(source, folder, kind=kind)


def refuse_without_room(model: Base, parent: Path, kind: Kind) -> None:
    """NoBase unless a disk has room for all of a model's weights, unquantised."""
    from services.llm.weights import Weights

    shape = Weights(model.source).shape
    block = 2 * shape.hidden * (shape.query_width + shape.key_width) + 3 * shape.hidden * shape.feed_forward
    needed = (4 if kind == "fp32" else 2) * (2 * shape.vocabulary * shape.hidden + shape.layers * block)
    if (free := shutil.disk_usage(parent).free) < needed:
        raise NoBase(
            f"There is no room to write out {model.name}.",
            why=f"it needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in {parent}",
            hint="free some room, or name a folder on a larger disk (models' home: MILEPOST_MODEL_HOME)",
        )


def _stored(source: Path) -> str:
    """The types that the weights were stored in, the commonest first: Q4_1, F32."""
    if source.is_dir():
        return "safetensors"
    from collections import Counter

    from gguf import GGUFReader

    counted: Counter[str] = Counter()
    for tensor in GGUFReader(source).tensors:
        counted[tensor.tensor_type.name] += int(tensor.n_elements)
    return ", ".join(name for name, _ in counted.most_common())
