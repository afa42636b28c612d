from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.messages import Message, Prompt, Sampling
from services.llm.about import NoChatFormat, about_folder
from services.llm.build import BUILDER, MANIFEST, build_text_model, faults, read_manifest
from services.llm.chat import CHATML, LLAMA3
from services.llm.onnx_model import OnnxModel
from services.llm.session import ModelBroken, RuntimeConflict, refuse_two_runtimes
from services.llm.weights import UnsupportedModel
from tests.support.own_models import hugging_face_folder
from tests.support.tiny_model import CONTEXT, SPECIAL, Tiny, tokens

DATA = "model.onnx.data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tmp_path / "built"
    built.mkdir()
    source = Tiny.random("qwen2", tied=False).write(tmp_path / "tiny.gguf")
    build_text_model(source, built, name="tiny", sha256="0" * 64, licence="MIT")
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
    assert (manifest.precision, manifest.layout, manifest.chat, manifest.licence) == ("int8", "slots", CHATML, "MIT")
    assert {tokens()[end] for end in manifest.ends} == set(SPECIAL) - {"<|im_start|>"}
    assert {file.name: file.size for file in manifest.files} == {
        path.name: path.stat().st_size for path in folder.iterdir() if path.name != MANIFEST
    }
    assert manifest.tokenizer_sha256 in {file.sha256 for file in manifest.files if file.name == "tokenizer.json"}


def test_a_folder_of_another_builder_is_refused(folder: Path) -> None:
    manifest = folder / MANIFEST
    manifest.write_text(manifest.read_text().replace(f'"builder": "{BUILDER}"', '"builder": "0"'))
    with pytest.raises(ModelBroken, match="builder 0"):
        read_manifest(folder)


def test_a_folder_without_a_manifest_is_refused(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(ModelBroken, match="No such file"):
        OnnxModel.load(folder)


@pytest.mark.parametrize("cut", [0, 1000])
def test_a_built_file_that_is_cut_short_is_not_loaded(folder: Path, cut: int) -> None:
    whole = (folder / DATA).read_bytes()
    (folder / DATA).write_bytes(whole[:cut])
    with pytest.raises(ModelBroken, match=f"{DATA} has {cut} of {len(whole)} bytes"):
        OnnxModel.load(folder)


def test_a_built_file_that_is_missing_is_not_loaded(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelBroken, match=r"tokenizer\.json is missing"):
        OnnxModel.load(folder)


def test_a_changed_byte_is_found_and_where(folder: Path) -> None:
    assert faults(folder) == []
    whole = bytearray((folder / DATA).read_bytes())
    whole[-1] ^= 1
    (folder / DATA).write_bytes(whole)
    assert faults(folder) == [f"{DATA} was changed since it was built"]


def test_a_hugging_face_folder_tells_how_it_is_spoken_to_and_builds(tmp_path: Path) -> None:
    source = hugging_face_folder(tmp_path / "source")
    about = about_folder(source)
    chat = about.chat(None, name="own")
    (tmp_path / "built").mkdir()
    build_text_model(source, tmp_path / "built", name="own", sha256="1" * 64, precision="int4", chat=chat)
    manifest = read_manifest(tmp_path / "built")
    assert about.licence == "mit"
    assert (manifest.chat, manifest.precision) == (CHATML.model_copy(update={"ends": ("<|im_end|>", "<|endoftext|>")}), "int4")


def test_a_template_in_a_file_of_its_own_comes_first(tmp_path: Path) -> None:
    source = hugging_face_folder(tmp_path, template="{{ nothing }}")
    (source / "chat_template.jinja").write_text("own")
    assert about_folder(source).template == "own"


def test_of_several_templates_the_default_is_taken(tmp_path: Path) -> None:
    source = hugging_face_folder(tmp_path)
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    (source / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert about_folder(source).template == "plain"


def test_a_model_without_a_template_must_be_told_how_it_speaks(tmp_path: Path) -> None:
    about = about_folder(hugging_face_folder(tmp_path, template=None))
    with pytest.raises(NoChatFormat, match="--chat chatml"):
        about.chat(None, name="own")
    assert about.chat("chatml", name="own") == CHATML
    with pytest.raises(NoChatFormat, match=r"no special token <\|eot_id\|>"):
        about.chat("llama3", name="own")
    with pytest.raises(NoChatFormat, match="There is no chat format 'nonsense'"):
        about.chat("nonsense", name="own")


def test_a_chat_format_that_the_vocabulary_cannot_write_is_not_built(tmp_path: Path) -> None:
    source = Tiny.random("llama", tied=True).write(tmp_path / "tiny.gguf")
    with pytest.raises(UnsupportedModel, match="does not speak llama3"):
        build_text_model(source, tmp_path, name="tiny", sha256="0" * 64, chat=LLAMA3)
    assert not (tmp_path / DATA).exists()


def test_a_tokenizer_with_more_tokens_than_the_table_is_not_built(tmp_path: Path) -> None:
    source = hugging_face_folder(tmp_path / "source")
    made = json.loads((source / "tokenizer.json").read_text())
    made["added_tokens"].append({**made["added_tokens"][0], "id": 900, "content": "<|far|>"})
    (source / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(UnsupportedModel, match="901 tokens, its table has rows for"):
        build_text_model(source, tmp_path, name="own", sha256="0" * 64)


def test_two_builds_of_onnx_runtime_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_two_runtimes()
    monkeypatch.setattr("services.llm.session.distribution", lambda name: name)
    with pytest.raises(RuntimeConflict, match="onnxruntime-gpu"):
        refuse_two_runtimes()
