"""Where the benchmark's data, models and vectors are, and how its cards and requests are read from the data sets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from infra.settings import load
from schemas.canonical import digest
from schemas.errors import MilepostError
from schemas.tools import ToolCard
from services.retrieval.e5 import E5Embedder
from services.retrieval.embedder import Embedder
from tests.bench.steps.places import PLACE, ROOT
from tool_adapters.aliyun import metadata
from tool_adapters.names import tool_name

Language: TypeAlias = Literal["zh", "en"]
Matrix: TypeAlias = npt.NDArray[np.float32]

BATCH = 64


class NoData(MilepostError):
    """The data sets are not here."""


class Request(NamedTuple):
    """What a user says, and the tool that it asks for."""

    text: str
    tool: str


def data() -> Path:
    """The folder of the data sets: MILEPOST_DATA, or ../shared/data beside the repository. Raises NoData."""
    folder = Path(os.environ.get("MILEPOST_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "aliyun-openapi-meta").is_dir():
        raise NoData(f"There are no data sets in {folder}.", hint="MILEPOST_DATA=FOLDER make bench-retrieval")
    return folder


def alibaba(language: metadata.Language = "both") -> list[ToolCard]:
    """The cards of the 15,920 APIs of Alibaba Cloud, as `milepost tools import` makes them."""
    return list(metadata.cards(metadata.read(data() / "aliyun-openapi-meta", language=language), language))


def hammerbench(language: Language) -> tuple[list[ToolCard], list[Request]]:
    """The tools of HammerBench, and the first thing said in each dialogue that begins with a call."""
    tools: dict[str, ToolCard] = {}
    requests: dict[str, str] = {}
    for dialogue in _dialogues(language):
        for name, said in _tools(dialogue):
            tools.setdefault(name, said)
        match dialogue.get("messages"):
            case [{"content": str(request)}, {"role": "function call", "content": {"name": str(called)}}, *_]:
                requests.setdefault(request, called)
    known = [Request(text, tool_name(tool)) for text, tool in requests.items() if tool in tools]
    return [tools[name] for name in sorted(tools)], known


def _dialogues(language: Language) -> Iterator[dict[str, object]]:
    for path in sorted((data() / "hammerbench" / "data" / language).glob("*-turn/*.json")):
        for dialogue in json.loads(path.read_text()):
            if path.parent.name == "single-turn":
                dialogue.pop("messages", None)
            yield dialogue


def _tools(dialogue: dict[str, object]) -> Iterator[tuple[str, ToolCard]]:
    for key in ("multiple_tools", "single_tool"):
        said = dialogue.get(key) or []
        said = json.loads(said) if isinstance(said, str) else said
        for tool in said if isinstance(said, list) else [said]:
            match tool:
                case {"name": str(name), "description": str(text), **more}:
                    parameters = more.get("parameters") or {"type": "object", "properties": {}}
                    yield name, ToolCard(name=tool_name(name), description=text, parameters=parameters)


async def embedder(threads: int = 2) -> Embedder:
    """The embedder that ships, without its cache. Raises MilepostError."""
    from infra.wiring import embedder_folder

    settings = load().settings
    folder = await embedder_folder(settings.model.home, offline=settings.model.offline)
    return E5Embedder(folder, threads=threads, cache=1)


async def passages(embedding: Embedder, texts: Sequence[str]) -> Matrix:
    """Vectors of card texts, one a row; they are kept beside the peers, since 16,000 take minutes."""
    file = PLACE / "retrieval" / f"{embedding.name}.npz"
    known: dict[str, npt.NDArray[np.float32]] = {}
    if file.exists():
        with np.load(file) as kept:
            known = dict(zip(kept["digests"].tolist(), kept["vectors"], strict=True))
    keys = [digest("text", text) for text in texts]
    missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items())
    for at in range(0, len(missing), BATCH):
        some = missing[at : at + BATCH]
        for (key, _), vector in zip(some, await embedding.embed([text for _, text in some], "passage"), strict=True):
            known[key] = np.asarray(vector, np.float32)
        print(f"  embedded {min(at + BATCH, len(missing)):,} of {len(missing):,} texts", end="\r", flush=True)
    if missing:
        print()
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, digests=np.array(list(known)), vectors=np.stack(list(known.values())))
    return np.stack([known[key] for key in keys])
