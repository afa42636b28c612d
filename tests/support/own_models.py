"""Models as a person has them: the tiny decoder as a Hugging Face folder with all that belongs to it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from services.llm.tokenizer import tokenizer_from
from services.llm.weights import Weights
from tests.support.tiny_model import Tiny

CHATML_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def hugging_face_folder(folder: Path, *, template: str | None = CHATML_TEMPLATE, seed: int = 0) -> Path:
    """config.json, safetensors, tokenizer, chat template and a README with a licence."""
    tiny = Tiny.random("qwen2", tied=True, seed=seed)
    tiny.write_folder(folder, kind="BF16")
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer_from(Weights(tiny.write(Path(scratch) / "tiny.gguf"))).save(str(folder / "tokenizer.json"))
    words = {"eos_token": {"content": "<|im_end|>"}, "bos_token": None} | ({"chat_template": template} if template else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Tiny\n")
    return folder
