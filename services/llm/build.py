"""From a model's files to a folder that can be served: graph, weights, tokenizer and a manifest that says what it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from schemas.messages import Wire
from services.llm.about import TOKENIZER, about_folder, about_gguf
from services.llm.chat import CHATML, ChatFormat
from services.llm.interface import Precision
from services.llm.session import ModelBroken
from services.llm.tokenizer import Vocabulary
from services.llm.weights import Shape, UnsupportedModel, Weights

BUILDER = "2"
MANIFEST = "model.json"
LONGEST = 8192

# Whose graph it is: ours, which reads and writes slots in place, or one that an exporter made.
Layout: TypeAlias = Literal["slots", "exported"]


class BuiltFile(BaseModel):
    """A file of a built folder."""

    model_config = ConfigDict(frozen=True)

    name: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """What a built folder holds.

    weights: SHA-256 of what it was built from; wire: how tools are shown where nobody asks for another way; context in
    tokens; ends: tokens that end a message; shape: None where an exporter made the graph. decides: it was trained to tell
    when to call, so the runtime's margins, which were measured on another model, are not for it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    weights: str
    builder: str
    precision: Precision
    layout: Layout
    chat: ChatFormat
    wire: Wire
    context: int = Field(ge=1)
    ends: tuple[int, ...] = Field(min_length=1)
    shape: Shape | None
    tokenizer_sha256: str
    files: tuple[BuiltFile, ...]
    licence: str
    decides: bool = False


class Plan(BaseModel):
    """What is to be built of a model. sha256: of its files; chat: how it is spoken to; decides: as its manifest says."""

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: str
    precision: Precision = "int8"
    chat: ChatFormat = CHATML
    wire: Wire = "json"
    licence: str = "unknown"
    decides: bool = False


def build_text_model(
    source: Path, folder: Path, *, name: str, sha256: str, precision: Precision = "int8", chat: ChatFormat = CHATML,
    wire: Wire = "json", licence: str = "unknown", decides: bool = False,
) -> None:  # fmt: skip
    """Build the graph of a GGUF file or a safetensors folder into an empty folder. Raises UnsupportedModel."""
    from services.llm.graph import write_graph  # onnx is for building only; serving does without

    plan = Plan(name=name, sha256=sha256, precision=precision, chat=chat, wire=wire, licence=licence, decides=decides)
    weights = Weights(source)
    tokenizer = (about_folder(source) if source.is_dir() else about_gguf(weights)).tokenizer
    context = min(weights.shape.context, LONGEST)
    _ends(source, tokenizer, chat, weights.shape.vocabulary)
    write_graph(weights, folder, precision=precision, context=context)
    finish(folder, plan, tokenizer, layout="slots", context=context, shape=weights.shape)


def finish(folder: Path, plan: Plan, tokenizer: Tokenizer, *, layout: Layout, context: int, shape: Shape | None = None) -> None:
    """Write the tokenizer and the manifest beside a graph that is there. Raises UnsupportedModel."""
    ends = _ends(folder, tokenizer, plan.chat, shape.vocabulary if shape else None)
    tokenizer.save(str(folder / TOKENIZER), pretty=False)
    files = tuple(sorted(_listed(folder), key=lambda file: file.name))
    manifest = Manifest(
        name=plan.name, weights=plan.sha256, builder=BUILDER, precision=plan.precision, layout=layout, chat=plan.chat,
        wire=plan.wire, context=min(context, LONGEST), ends=ends, shape=shape,
        tokenizer_sha256=next(file.sha256 for file in files if file.name == TOKENIZER), files=files, licence=plan.licence,
        decides=plan.decides,
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")


def _ends(source: Path, tokenizer: Tokenizer, chat: ChatFormat, rows: int | None) -> tuple[int, ...]:
    vocabulary = Vocabulary(tokenizer)
    if rows is not None and len(vocabulary) > rows:
        raise UnsupportedModel(source, f"its tokenizer has {len(vocabulary)} tokens, its table has rows for {rows}")
    if vocabulary.special(chat.ends[0]) is None:
        raise UnsupportedModel(source, f"its vocabulary has no {chat.ends[0]}, so it does not speak {chat.name}")
    return tuple(sorted({token for end in chat.ends if (token := vocabulary.special(end)) is not None}))


def _listed(folder: Path) -> Iterator[BuiltFile]:
    for path in folder.iterdir():
        if path.name != MANIFEST:
            yield BuiltFile(name=path.name, size=path.stat().st_size, sha256=sha256_of(path))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a built folder; ModelBroken unless it fits this version and its files have the sizes it tells."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelBroken(folder, str(error).splitlines()[0]) from error
    if manifest.builder != BUILDER:
        raise ModelBroken(folder, f"it was built by builder {manifest.builder}, this is {BUILDER}")
    for file in manifest.files:
        size = _size(folder / file.name)
        if size != file.size:
            raise ModelBroken(
                folder, f"its {file.name} " + ("is missing" if size is None else f"has {size} of {file.size} bytes")
            )
    return manifest


def faults(folder: Path) -> list[str]:
    """What is wrong with a built folder, file by file; every byte is read. Raises ModelBroken without a manifest."""
    manifest = read_manifest(folder)
    return [
        f"{file.name} was changed since it was built" for file in manifest.files if sha256_of(folder / file.name) != file.sha256
    ]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
