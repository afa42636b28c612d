from __future__ import annotations

from pathlib import Path

import pytest

from schemas.messages import Message, Prompt, Sampling
from services.llm.build import MANIFEST, build_text_model, read_manifest
from services.llm.onnx_model import OnnxModel
from services.llm.session import ModelBroken, RuntimeConflict, refuse_two_runtimes
from tests.support.tiny_model import CONTEXT, SPECIAL, Tiny, tokens


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tmp_path / "built"
    built.mkdir()
    source = Tiny.random("qwen2", tied=False).write(tmp_path / "tiny.gguf")
    build_text_model(source, built, name="tiny", sha256="0" * 64)
    return built


async def test_a_built_folder_can_be_spoken_to(folder: Path) -> None:
    model = OnnxModel.load(folder, slots=2)
    heard: list[str] = []
    prompt = Prompt(messages=(Message(role="user", content="hello"),), sampling=Sampling(max_tokens=12))
    said = await model.generate(prompt, on_text=heard.append)
    again = await model.generate(prompt, on_text=lambda _: None)
    model.close()
    assert said.model == "tiny"
    assert said.text == "".join(heard) == again.text
    assert again.usage.cached_tokens == said.usage.prompt_tokens - 1
    assert said.finish in ("stop", "length")


def test_the_manifest_says_what_was_built(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert (manifest.name, manifest.weights, manifest.context) == ("tiny", "0" * 64, CONTEXT)
    assert {tokens()[end] for end in manifest.ends} == set(SPECIAL) - {"<|im_start|>"}


def test_a_folder_of_another_builder_is_refused(folder: Path) -> None:
    manifest = folder / MANIFEST
    manifest.write_text(manifest.read_text().replace('"builder": "1"', '"builder": "0"'))
    with pytest.raises(ModelBroken, match="builder 0"):
        read_manifest(folder)


def test_two_builds_of_onnx_runtime_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_two_runtimes()
    monkeypatch.setattr("services.llm.session.distribution", lambda name: name)
    with pytest.raises(RuntimeConflict, match="onnxruntime-gpu"):
        refuse_two_runtimes()
