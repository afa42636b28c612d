"""Decoders of other architectures: exported by optimum, in an environment of its own that is made when first wanted.

optimum-onnx pins an old transformers and tokenizers and needs torch, so it shares no environment with Milepost. Its
packages are pinned with their hashes in infra/locks/export.txt.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.models import export_worker
from schemas.errors import MilepostError

LOCK = Path(__file__).parents[1] / "locks" / "export.txt"
WORKER = Path(export_worker.__file__)
ENVIRONMENT = ".export-env"
STAMP = "installed"

# pip holds all wheels before it unpacks them. On Linux torch of the Python registry is linked against the libraries
# of CUDA and does not load without them, GPU or not; the lock leaves out those that it loads only when it uses them.
ROOM = 8_000_000_000

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}

OnLine: TypeAlias = Callable[[str], None]


def silent(_: str) -> None:
    """Progress for nobody."""


class EnvironmentFailed(MilepostError):
    """The environment that optimum runs in could not be made."""

    def __init__(self, folder: Path, why: str, hint: str) -> None:
        super().__init__(f"The environment of the exporter could not be made in {folder}.", why=why, hint=hint)
        self.folder = folder


class NotExportable(MilepostError):
    """optimum, or the transformers it needs, does not know the architecture."""

    def __init__(self, source: Path, why: str) -> None:
        super().__init__(
            f"optimum cannot export {source.name}.",
            why=why,
            hint="use a model of another architecture; those that Milepost builds itself need no optimum (milepost models ls)",
        )
        self.source = source


class SourceUnreadable(MilepostError):
    """The source is no model that transformers can read."""

    def __init__(self, source: Path, why: str) -> None:
        super().__init__(
            f"{source} is no model that can be read.",
            why=why,
            hint="name a GGUF file, or a folder with config.json, model.safetensors and tokenizer.json",
        )
        self.source = source


class ExportFailed(MilepostError):
    """optimum's process ended without a model."""

    def __init__(self, source: Path, complaint: str) -> None:
        super().__init__(
            f"The export of {source.name} failed.",
            why=complaint or "the process was killed; perhaps memory ran out (it needs three times the float32 weights)",
            hint="see that the source is whole; where the process was killed, use a machine with more memory",
        )
        self.source = source


class Exported(BaseModel):
    """What was exported. context: tokens it was trained for; ends: tokens that end a text; versions: of the exporter."""

    model_config = ConfigDict(frozen=True)

    architecture: str
    vocabulary: int
    context: int | None
    ends: tuple[int, ...]
    versions: dict[str, str]


def export(source: Path, target: Path, *, home: Path, on_line: OnLine = silent) -> Exported:
    """Write model.onnx (perhaps with model.onnx_data), tokenizer.json and config.json into an empty folder.

    source: a Hugging Face folder or a GGUF file; home: where models lie, and the environment beside them. No network but
    for the environment's packages. on_line: hears each line that pip and optimum write. Minutes for a model of a gigabyte.
    Raises EnvironmentFailed, NotExportable, SourceUnreadable, ExportFailed.
    """
    if not (source / "config.json").exists() and not (source.is_file() and source.suffix == ".gguf"):
        raise SourceUnreadable(source, "it is neither a folder with a config.json nor a file that ends in .gguf")
    python = ensure_environment(home, on_line=on_line)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=target.parent) as scratch:
        # -I: neither the variables of a person's Python nor the modules beside the worker reach it.
        command = [str(python), "-I", "-u", "-W", "ignore", str(WORKER), str(source.resolve()), str(target.resolve())]
        status, lines = _run(command, on_line, scratch)
    last = lines[-1][:500] if lines else ""
    if status == export_worker.UNSUPPORTED:
        raise NotExportable(source, last)
    if status == export_worker.UNREADABLE:
        raise SourceUnreadable(source, last)
    try:
        return Exported.model_validate_json((target / export_worker.RECORD).read_bytes())
    except (OSError, ValidationError) as error:
        raise ExportFailed(source, last if status > 0 else "" if status else str(error)) from error


def ensure_environment(home: Path, *, on_line: OnLine = silent) -> Path:
    """The Python that has optimum, its environment made first where it is missing or of another lock.

    Two processes may ask at once: one installs, the other waits. Raises EnvironmentFailed.
    """
    from filelock import FileLock

    folder = home.resolve() / ENVIRONMENT
    python, stamp = folder / "bin" / "python", folder / STAMP
    wanted = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / f"{ENVIRONMENT}.lock"):
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(folder, python, on_line)
            stamp.write_text(wanted)
    return python


def _install(folder: Path, python: Path, on_line: OnLine) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < ROOM:
        why = f"it needs {ROOM / 1e9:.0f} GB while it is made, {free / 1e9:.1f} GB are free there"
        raise EnvironmentFailed(folder, why, "free some room, or name a home on a larger disk (--home)")
    on_line(f"making an environment for optimum in {folder}: 2 GB to fetch, once")
    with tempfile.TemporaryDirectory(prefix=f"{ENVIRONMENT}-", dir=folder.parent) as scratch:
        status, lines = _run([sys.executable, "-m", "venv", str(folder)], on_line, scratch)
        if status:
            hint = "install Python's venv (on Debian: apt install python3-venv), then try again"
            raise EnvironmentFailed(folder, _complaint(lines), hint)
        command = [
            str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-cache-dir",
            "--progress-bar=off", "--only-binary=:all:", "--no-deps", "--require-hashes", "-r", str(LOCK),
        ]  # fmt: skip
        status, lines = _run(command, on_line, scratch)
    if status:
        hint = "see that pip reaches the Python registry (pip download --no-deps optimum), then try again"
        raise EnvironmentFailed(folder, _complaint(lines), hint)


def _complaint(lines: Sequence[str]) -> str:
    """What a program said was wrong: its lines that begin with ERROR, else its last one."""
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
    return " ".join(line.removeprefix("ERROR:").strip() for line in errors)[:500]


def _run(command: Sequence[str], on_line: OnLine, scratch: str) -> tuple[int, list[str]]:
    """Run a program to its end, each line it writes passed on: (its status, its last lines). An interrupt kills it."""
    lines: deque[str] = deque(maxlen=50)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env={**os.environ, **QUIET, "TMPDIR": scratch},
    )  # fmt: skip
    with process:
        try:
            for line in map(str.strip, process.stdout or ()):
                if line:
                    lines.append(line)
                    on_line(line)
        except BaseException:
            process.kill()
            raise
    return process.returncode, list(lines)


if __name__ == "__main__":
    from infra.settings import load

    try:
        print(ensure_environment(load({}).settings.model.home, on_line=print))
    except MilepostError as error:
        sys.exit(str(error))
