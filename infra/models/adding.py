"""Adding a model of the person's own: looked at, registered, built; nothing is left of one that fails on the way."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from infra.models.adapters import Trained
from infra.models.added import Card, NotAdded, Source, free_name, pin, registered, source_of
from infra.models.build import AUTO, BuildFailed, OnBytes, build, built_folder, exported, silent
from infra.models.catalogue import ModelCard
from infra.models.fetch import ensure

if TYPE_CHECKING:
    from services.llm.about import About
    from services.llm.chat import ChatFormat
    from services.llm.weights import Weights

UNKNOWN = "unknown"


async def add(
    path: Path, *, home: Path, name: str | None = None, chat: str | ChatFormat | None = None, licence: str | None = None,
    precision: str = "int8", added_from: str | None = None, trained: Trained | None = None, on_bytes: OnBytes = silent,
) -> ModelCard:  # fmt: skip
    """Register and build a GGUF file or Hugging Face folder of the Llama, Qwen2 or Qwen3 family.

    chat: a format or its name, in place of the one that its own template tells; trained: what is known of its training.
    Raises NotAdded, UnsupportedModel, NoChatFormat, TemplateRefused, BuildFailed.
    """
    from services.llm.interface import PRECISIONS

    source = source_of(path)
    name = free_name(name, source, home)
    if precision not in PRECISIONS:
        raise NotAdded(
            f"{path} cannot be added.", why=f"there is no precision {precision!r}",
            hint=f"--precision {'|'.join(PRECISIONS)}",
        )  # fmt: skip
    card = await asyncio.to_thread(_looked_at, source, name, chat, licence, precision, added_from or str(source.path))
    if trained is not None:
        card = card.model_copy(update={"trained": trained, "languages": trained.languages})
    with registered(card, source, home):
        await ensure(name, home=home)
        try:
            await build(name, home, precision, on_bytes=on_bytes)
        except BuildFailed as error:  # its own hint names a model that is gone again
            raise BuildFailed(name, error.why, hint=f"milepost models add {added_from or path}") from error
    return card.model_card()


def _looked_at(
    source: Source, name: str, chat: str | ChatFormat | None, licence: str | None, precision: str, added_from: str
) -> Card:
    from services.llm.chat import ChatFormat
    from services.llm.weights import Weights

    weights = Weights(source.path)
    about = _about(source, weights)
    spoken = chat if isinstance(chat, ChatFormat) else about.chat(chat, name=name)
    title = weights.field("general.name")
    return Card(
        name=name, title=title if isinstance(title, str) else source.path.name, added_from=added_from, files=pin(source),
        gguf=source.gguf, licence=licence or about.licence or UNKNOWN, languages=(), context=weights.shape.context,
        chat=spoken.model_dump(mode="json"), precision=precision,
    )  # fmt: skip


def _about(source: Source, weights: Weights) -> About:
    from services.llm.about import about_folder, about_gguf

    return about_gguf(weights) if source.gguf else about_folder(source.folder)


def export(
    path: Path, *, home: Path, name: str | None = None, chat: str | None = None, licence: str | None = None,
    on_line: Callable[[str], None] = print,
) -> ModelCard:  # fmt: skip
    """Register a model of any architecture that optimum knows, with the graph that it exports. Minutes.

    Raises NotAdded, NoChatFormat, TemplateRefused, UnsupportedModel, and what infra.models.export raises.
    """
    from services.llm.build import Plan, finish

    source = source_of(path)
    name = free_name(name, source, home)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=home) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        told, about = exported(source.path, made, home, on_line)
        spoken = about.chat(chat, name=name)
        context = told.context or 2048
        card = Card(
            name=name, title=source.path.name, added_from=str(source.path), files=pin(source), gguf=source.gguf,
            licence=licence or about.licence or UNKNOWN, languages=(), context=context,
            chat=spoken.model_dump(mode="json"), precision="fp32", exporter="optimum",
        )  # fmt: skip
        model = card.model_card()
        plan = Plan(name=name, sha256=model.file.sha256, precision="fp32", chat=spoken, licence=card.licence)
        finish(made, plan, about.tokenizer, layout="exported", context=context)
        with registered(card, source, home):
            asyncio.run(ensure(name, home=home))
            made.rename(built_folder(model, home, AUTO))
    return model
