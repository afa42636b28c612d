"""From a GGUF file to a folder that can be served: graph, weights, tokenizer and a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.llm.chat import FORMATS
from services.llm.session import ModelBroken
from services.llm.tokenizer import Vocabulary, tokenizer_from
from services.llm.weights import Shape, UnsupportedModel, Weights

BUILDER = "1"
MANIFEST = "model.json"
TOKENIZER = "tokenizer.json"
LONGEST = 8192


class Manifest(BaseModel):
    """What a built folder holds. weights: SHA-256 of the GGUF file; ends: tokens that end a message; context in tokens."""

    model_config = ConfigDict(frozen=True)

    name: str
    weights: str
    builder: str
    chat: Literal["chatml"]
    context: int = Field(ge=1)
    ends: tuple[int, ...]
    shape: Shape


def build_text_model(source: Path, folder: Path, *, name: str, sha256: str) -> None:
    """Build the graph of a GGUF file into an empty folder. Raises UnsupportedModel."""
    from services.llm.graph import write_graph  # onnx is for building only; serving does without

    weights = Weights(source)
    context = min(weights.shape.context, LONGEST)
    tokenizer = tokenizer_from(weights)
    chat = FORMATS["chatml"]
    vocabulary = Vocabulary(tokenizer)
    end = vocabulary.special(chat.end)
    if end is None:
        raise UnsupportedModel(source, f"its vocabulary has no {chat.end}, so it does not speak {chat.name}")
    ends = {token for token in (end, vocabulary.special("<|endoftext|>")) if token is not None}
    write_graph(weights, folder, precision="int8", context=context)
    tokenizer.save(str(folder / TOKENIZER), pretty=False)
    manifest = Manifest(
        name=name, weights=sha256, builder=BUILDER, chat="chatml", context=context, ends=tuple(sorted(ends)),
        shape=weights.shape,
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a built folder; ModelBroken if it has none that fits this version."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise ModelBroken(folder, str(error).splitlines()[0]) from error
    if manifest.builder != BUILDER:
        raise ModelBroken(folder, f"it was built by builder {manifest.builder}, this is {BUILDER}")
    return manifest
