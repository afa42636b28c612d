"""What is served, built from what was fetched: once for each file, builder and precision, in a process of its own.

Precisions of one model lie side by side: `<home>/<name>/onnx-<first 12 digits of the sum>-<builder>-<precision>`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from infra.models.catalogue import Kind, ModelCard, find
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.models.export import Exported
    from schemas.messages import Wire
    from services.llm.about import About
    from services.llm.chat import ChatFormat
    from services.llm.interface import Precision

# Raise the number when the builder of a kind writes something else than before.
BUILDERS: dict[Kind, str] = {"text": "2", "embedding": "2"}
ROOT = str(Path(__file__).resolve().parents[2])
AUTO = "auto"

# How many bytes of the folder are written.
OnBytes: TypeAlias = Callable[[int], None]


def silent(_: int) -> None:
    """Progress for nobody."""


class BuildFailed(MilepostError):
    """The builder's process ended without a model."""

    def __init__(self, name: str, complaint: str, hint: str = "") -> None:
        super().__init__(
            f"The ONNX graph of {name} could not be built.",
            why=complaint or "the process was killed; perhaps memory or disk ran out (it needs 2 GB and 1 GB)",
            hint=hint or f"milepost models build {name}",
        )
        self.name = name


class NoPrecision(MilepostError):
    """A model is asked for in a precision in which it cannot be built."""

    def __init__(self, name: str, precision: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"{name} cannot be built in the precision {precision!r}.",
            why=f"it can be in {', '.join(known)}",
            hint=f"milepost models build {name} --precision {known[0]}",
        )


def precisions(card: ModelCard) -> tuple[str, ...]:
    """The precisions a model can be built in, the usual one first."""
    if card.kind == "embedding" or card.exporter:
        return (card.precision,)
    from services.llm.interface import PRECISIONS

    return (card.precision, *(each for each in PRECISIONS if each != card.precision))


def precision_for(card: ModelCard, wanted: str, provider: str) -> str:
    """The precision to serve a model in: auto is its usual one on CPUs, and the best one for a GPU that is there."""
    known = precisions(card)
    if len(known) == 1:
        return known[0]
    if wanted != AUTO:
        return wanted
    from services.llm.decoders import BEST
    from services.llm.device import cuda_answers

    return BEST["cuda"] if provider == "cuda" or (provider == "auto" and cuda_answers()) else card.precision


def built_folder(card: ModelCard, home: Path, precision: str = AUTO) -> Path:
    """Where a build of a model lies, or would lie. Raises NoPrecision."""
    known = precisions(card)
    wanted = card.precision if precision == AUTO else precision
    if wanted not in known:
        raise NoPrecision(card.name, wanted, known)
    stem = f"onnx-{card.file.sha256[:12]}-{BUILDERS[card.kind]}"
    return home / card.name / (stem if card.kind == "embedding" else f"{stem}-{wanted}")


def built(card: ModelCard, home: Path) -> Iterator[tuple[str, Path]]:
    """The precisions of a model that are there, each with its folder."""
    for precision in precisions(card):
        if (folder := built_folder(card, home, precision)).is_dir():
            yield precision, folder


async def build(name: str, home: Path, precision: str = AUTO, *, on_bytes: OnBytes = silent) -> Path:
    """The folder with the served form of a fetched model, built first where it is missing.

    precision: auto for the model's usual one. Two processes may ask at once: one builds, the other waits.
    Raises UnknownModel, NoPrecision, BuildFailed.
    """
    from filelock import AsyncFileLock

    card = find(name, home)
    target = built_folder(card, home, precision)
    if target.exists():
        return target
    async with AsyncFileLock(target.parent / ".lock"):
        if not target.exists():
            await _build(card, home, target, card.precision if precision == AUTO else precision, on_bytes)
    return target


async def _build(card: ModelCard, home: Path, target: Path, precision: str, on_bytes: OnBytes) -> None:
    source = target.parent
    try:
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=".building-", dir=source))
    except OSError as error:
        raise BuildFailed(card.name, f"{source}: {error.strerror or error}") from error
    try:
        await _run_builder(card.name, home, scratch, precision, on_bytes)
        await asyncio.to_thread(_drop_older, source, target, scratch)
        await asyncio.to_thread(scratch.rename, target)
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


def _drop_older(source: Path, target: Path, scratch: Path) -> None:
    """Remove builds of the same precision by other builders or of other files, and what killed builders left."""
    older = [old for old in source.glob("onnx-*") if _precision_of(old) in ([], _precision_of(target))]
    for old in [*older, *source.glob(".building-*")]:
        if old not in (target, scratch):
            shutil.rmtree(old, ignore_errors=True)


def _precision_of(folder: Path) -> list[str]:
    """The last part of a built folder's name; empty for an embedder, and for what builder 1 wrote."""
    return folder.name.split("-", 3)[3:]


async def _run_builder(name: str, home: Path, scratch: Path, precision: str, on_bytes: OnBytes) -> None:
    path = os.pathsep.join(part for part in (ROOT, os.environ.get("PYTHONPATH", "")) if part)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.models.build", name, str(home), str(scratch), precision,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    output = asyncio.create_task(process.communicate())
    try:
        on_bytes(0)
        while not (await asyncio.wait({output}, timeout=0.5))[0]:
            on_bytes(await asyncio.to_thread(written, scratch))
    finally:
        if process.returncode is None:
            process.kill()
        _, complaint = await output
    if process.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines()
        raise BuildFailed(name, " ".join(lines[-3:])[:500])


def written(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def main(name: str, home: Path, folder: Path, precision: str) -> None:
    """What the builder's process does."""
    card = find(name, home)
    source = home / card.name
    if card.kind == "embedding":
        from services.retrieval.e5_build import build as build_e5

        build_e5(source, folder)
        return
    if card.exporter:
        build_exported(card, source / card.file.name, folder, home, chat_of(card))
        return
    from services.llm.build import build_text_model

    build_text_model(
        source / card.file.name, folder, name=name, sha256=card.file.sha256, precision=cast("Precision", precision),
        chat=chat_of(card), wire=cast("Wire", card.wire), licence=card.licence,
        decides=card.trained is not None,
    )  # fmt: skip


def chat_of(card: ModelCard) -> ChatFormat:
    """The chat format of a text model."""
    from services.llm.chat import FORMATS, ChatFormat

    return FORMATS[card.chat] if isinstance(card.chat, str) else ChatFormat.model_validate(card.chat)


def build_exported(card: ModelCard, source: Path, folder: Path, home: Path, chat: ChatFormat) -> None:
    """Let optimum export a model into an empty folder; its tokenizer and manifest are ours."""
    from services.llm.build import Plan, finish

    made, about = exported(source, folder, home)
    plan = Plan(name=card.name, sha256=card.file.sha256, precision="fp32", chat=chat, licence=card.licence)
    finish(folder, plan, about.tokenizer, layout="exported", context=made.context or card.context)


def exported(source: Path, folder: Path, home: Path, on_line: Callable[[str], None] = print) -> tuple[Exported, About]:
    """The graph that optimum makes of a model, alone in a folder, and what the model says of itself."""
    from infra.models.export import export
    from services.llm.about import TOKENIZER, about_folder

    made = export(source, folder, home=home, on_line=on_line)
    about = about_folder(source if (source / TOKENIZER).is_file() else folder)
    for path in folder.iterdir():
        if path.is_file() and not path.name.startswith("model.onnx") and path.name not in ("config.json", "export.json"):
            path.unlink()
    return made, about


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    except MilepostError as error:
        sys.exit(f"{error.what} {error.why}".strip())
    except OSError as error:
        sys.exit(f"{error.filename or sys.argv[3]}: {error.strerror or error}")
