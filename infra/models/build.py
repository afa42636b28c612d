"""What is served, built from what was fetched: once for each file and builder, in a process that gives its memory back."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from infra.models.catalogue import Kind, find
from infra.models.fetch import model_folder
from schemas.errors import MilepostError

# Raise the number when the builder of a kind writes something else than before.
BUILDERS: dict[Kind, str] = {"text": "1", "embedding": "1"}
ROOT = str(Path(__file__).resolve().parents[2])


class BuildFailed(MilepostError):
    """The builder's process ended without a model."""

    def __init__(self, name: str, complaint: str) -> None:
        super().__init__(
            f"The ONNX graph of {name} could not be built.",
            why=complaint or "the process was killed; perhaps memory or disk ran out (it needs 2 GB and 1 GB)",
            hint=f"milepost models pull {name}",
        )
        self.name = name


async def build(name: str, home: Path) -> Path:
    """The folder with the served form of a fetched model, built first where it is missing.

    Two processes may ask at once: one builds, the other waits. Raises UnknownModel, BuildFailed.
    """
    from filelock import AsyncFileLock

    card = find(name)
    source = model_folder(name, home)
    target = source / f"onnx-{card.file.sha256[:12]}-{BUILDERS[card.kind]}"
    if target.exists():
        return target
    async with AsyncFileLock(source / ".lock"):
        if not target.exists():
            await _build(name, source, target)
    return target


async def _build(name: str, source: Path, target: Path) -> None:
    await asyncio.to_thread(_drop_older, source)
    scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=".building-", dir=source))
    try:
        await _run_builder(name, source, scratch)
        await asyncio.to_thread(scratch.rename, target)
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


def _drop_older(source: Path) -> None:
    """Remove builds of another file or builder, and what killed builders left."""
    for old in [*source.glob("onnx-*"), *source.glob(".building-*")]:
        shutil.rmtree(old, ignore_errors=True)


async def _run_builder(name: str, source: Path, scratch: Path) -> None:
    path = os.pathsep.join(part for part in (ROOT, os.environ.get("PYTHONPATH", "")) if part)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.models.build", name, str(source), str(scratch),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    try:
        _, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines()
        raise BuildFailed(name, " ".join(lines[-3:])[:500])


def main(name: str, source: Path, folder: Path) -> None:
    """What the builder's process does."""
    card = find(name)
    if card.kind == "embedding":
        from services.retrieval.e5_build import build as build_e5

        build_e5(source, folder)
        return
    from services.llm.build import build_text_model

    build_text_model(source / card.file.name, folder, name=name, sha256=card.file.sha256)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    except MilepostError as error:
        sys.exit(str(error))
