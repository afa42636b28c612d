"""Where the peers live and what they read: environments of their own, and the same weights in the form each of them wants."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from infra.models.build import build, precision_for
from infra.models.catalogue import find
from infra.models.fetch import ensure, model_folder
from infra.settings import load
from tests.bench.steps.places import INSTALL_S, Missing, output
from tests.bench.steps.places import PLACE as BENCH

HERE = Path(__file__).parent
PLACE = BENCH / "llm"
NODE_LLAMA_CPP = "3.22.1"
BUILD_S = 1200.0
# How onnxruntime-genai's model builder is asked: as it comes, and for speed (logits of the last token alone, larger blocks).
VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "tuned": ("prune_lm_head=true", "block_size=128"),
}


async def served_folder(name: str, provider: str) -> Path:
    """What our service would serve on this device, fetched and built if need be."""
    settings = load().settings.model
    await ensure(name, home=settings.home, offline=settings.offline, folder=settings.folder)
    card = find(name, settings.home)
    return await build(name, settings.home, precision_for(card, settings.precision, provider))


async def gguf_file(name: str) -> Path:
    """The model's GGUF file, fetched if need be."""
    settings = load().settings.model
    await ensure(name, home=settings.home, offline=settings.offline, folder=settings.folder)
    return model_folder(name, settings.home) / find(name, settings.home).file.name


async def python_with(requirements: str) -> Path:
    """The Python of an environment with these requirements, installed first where they are not."""
    wanted, folder = HERE / requirements, PLACE / Path(requirements).stem.replace("requirements", "python")
    python, installed = folder / "bin" / "python", folder / requirements
    if not python.exists():
        await output(sys.executable, "-m", "venv", folder)
    if not installed.exists() or installed.read_text() != wanted.read_text():
        print(f"installing {requirements} (once; some minutes)", flush=True)
        await output(python, "-m", "pip", "install", "--quiet", "--requirement", wanted, seconds=3 * INSTALL_S)
        installed.write_text(wanted.read_text())
    return python


async def node_llama_cpp() -> tuple[Path, Path]:
    """Node's program, and the library with the CPU's binary of llama.cpp; its other binaries are hundreds of megabytes."""
    node, npm, folder = shutil.which("node"), shutil.which("npm"), PLACE / "node"
    if node is None or npm is None:
        raise Missing("there is no node or no npm")
    library = folder / "node_modules" / "node-llama-cpp"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        packages = [f"{package}@{NODE_LLAMA_CPP}" for package in ("node-llama-cpp", f"@node-llama-cpp/linux-{machine}")]
        flags = ["--silent", "--no-fund", "--no-audit", "--omit=optional"]
        os.environ["NODE_LLAMA_CPP_SKIP_DOWNLOAD"] = "true"
        await output(npm, "install", *flags, *packages, folder=folder, seconds=INSTALL_S)
    return Path(node), library / "dist" / "index.js"


async def dense_folder(python: Path, gguf: Path, name: str) -> Path:
    """The model as Hugging Face's folder in float32."""

    async def make(folder: Path) -> None:
        print(f"{name}: dequantising for the peers (once; a minute)", flush=True)
        await output(python, HERE / "dequantise.py", gguf, folder, seconds=BUILD_S)

    return await _made(PLACE / name / "dense", make)


async def genai_folder(python: Path, gguf: Path, name: str, variant: str, provider: str) -> Path:
    """The model as onnxruntime-genai's builder makes it of the same weights: int4 for a CPU, fp16 for CUDA."""
    dense = await dense_folder(python, gguf, name)
    form = ("-p", "int4", "-e", "cpu") if provider == "cpu" else ("-p", "fp16", "-e", "cuda")
    options = ("--extra_options", *VARIANTS[variant]) if VARIANTS[variant] else ()

    async def make(folder: Path) -> None:
        print(f"{name}: building for onnxruntime-genai, {variant} (once; a minute)", flush=True)
        builder: list[str | Path] = [
            python,
            "-m",
            "onnxruntime_genai.models.builder",
            "-i",
            dense,
            "-o",
            folder,
            "-c",
            folder / "cache",
        ]
        await output(*builder, *form, *options, seconds=BUILD_S)

    return await _made(PLACE / name / f"genai-{provider}-{variant}", make)


async def _made(folder: Path, make: Callable[[Path], Awaitable[None]]) -> Path:
    """A folder that is there whole or not at all."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
        try:
            await make(scratch)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder
