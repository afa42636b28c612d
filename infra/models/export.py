"""Decoders of other architectures: exported by optimum, in an environment of its own that is made when first wanted.

optimum-onnx pins an old transformers and tokenizers and needs torch, so it shares no environment with Milepost. Its
packages are pinned with their hashes in infra/locks/export.txt.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from infra import environments
from infra.environments import LOCKS, Environment, EnvironmentFailed, OnLine, silent
from infra.models import export_worker
from schemas.errors import MilepostError

__all__ = ["EnvironmentFailed", "ExportFailed", "Exported", "NotExportable", "SourceUnreadable", "ensure_environment", "export"]

WORKER = Path(export_worker.__file__)

# pip holds all wheels before it unpacks them. On Linux torch of the Python registry is linked against the libraries
# of CUDA and does not load without them, GPU or not; the lock leaves out those that it loads only when it uses them.
OPTIMUM = Environment("the exporter", ".export-env", LOCKS / "export.txt", room=8_000_000_000, package="optimum")

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


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
        status, lines = environments.run(command, on_line, {**QUIET, "TMPDIR": scratch})
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
    """The Python that has optimum, its environment made first where it is missing. Raises EnvironmentFailed."""
    return environments.ensure(OPTIMUM, home, on_line=on_line)


if __name__ == "__main__":
    environments.main(ensure_environment)
