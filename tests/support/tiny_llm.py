"""The tiny random decoder as a whole language model: built folder, engine, streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.llm.build import build_text_model
from services.llm.onnx_model import OnnxModel
from tests.support.tiny_model import Tiny


@contextmanager
def tiny_llm(folder: Path, *, slots: int = 2, seed: int = 0, **options: int) -> Iterator[OnnxModel]:
    """A model that says random things, quickly; it lives while the context is open."""
    source, built = folder / "tiny.gguf", folder / "built"
    Tiny.random("qwen2", tied=True, seed=seed).write(source)
    built.mkdir()
    build_text_model(source, built, name="tiny", sha256="0" * 64)
    model = OnnxModel.load(built, slots=slots, threads=1, **options)
    try:
        yield model
    finally:
        model.close()
