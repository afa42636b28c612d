"""What the exporter's process does, under the Python of the export environment: it has optimum, and nothing of Milepost.

python export_worker.py SOURCE TARGET: SOURCE is a Hugging Face folder or a GGUF file, TARGET an empty folder.
It ends with UNSUPPORTED or UNREADABLE, the reason on its last line, when the source is to blame.
"""

from __future__ import annotations

import errno
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

TASK = "text-generation-with-past"
RECORD = "export.json"
UNSUPPORTED = 3
UNREADABLE = 4


class Refused(Exception):
    """The source cannot be exported. status: what the process ends with."""

    def __init__(self, status: int, why: object) -> None:
        super().__init__(" ".join(str(why).split()))
        self.status = status


def main(source: Path, target: Path) -> None:
    """Export the source and write down what it was."""
    if source.is_dir():
        export(source, target)
        return
    with tempfile.TemporaryDirectory() as folder:
        dequantise(source, Path(folder))
        export(Path(folder), target)


def dequantise(source: Path, folder: Path) -> None:
    """A GGUF file as a Hugging Face folder in float32, by transformers' own reader."""
    import torch
    from tokenizers.decoders import ByteLevel
    from tokenizers.pre_tokenizers import ByteLevel as ByteLevelSplit
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(f"reading {source.name}")
    try:
        model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, torch_dtype=torch.float32)
    except ValueError as error:
        raise Refused(UNSUPPORTED if "not supported" in str(error) else UNREADABLE, error) from error
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    inner = tokenizer.backend_tokenizer
    if isinstance(inner.pre_tokenizer, ByteLevelSplit):
        # transformers takes a `llama` file's tokens for SentencePiece's, though they are GPT-2's bytes.
        inner.decoder, inner.model.byte_fallback = ByteLevel(), False
    tokenizer.save_pretrained(folder)


def export(source: Path, target: Path) -> None:
    """A Hugging Face folder as an ONNX graph in float32, its tokenizer and configuration beside it."""
    from optimum.exporters.onnx import main_export
    from safetensors import SafetensorError

    config = config_of(source)
    print(f"exporting {config.model_type}")
    try:
        main_export(str(source), target, task=TASK, library_name="transformers", framework="pt", local_files_only=True)
    except SafetensorError as error:
        raise Refused(UNREADABLE, error) from error
    except OSError as error:
        if error.errno in (None, errno.ENOENT):  # transformers' own of a missing file has no number
            raise Refused(UNREADABLE, error) from error
        raise
    (target / RECORD).write_text(json.dumps(record(config, target), indent=1))


def config_of(source: Path) -> PretrainedConfig:
    """The configuration of a decoder that transformers reads and optimum exports."""
    from optimum.exporters.tasks import TasksManager
    from transformers import CONFIG_MAPPING, AutoConfig

    try:
        kind = json.loads((source / "config.json").read_text()).get("model_type")
        if kind not in CONFIG_MAPPING:
            raise Refused(UNSUPPORTED, f"transformers {version('transformers')} does not know the architecture {kind}")
        config = AutoConfig.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, AttributeError) as error:
        raise Refused(UNREADABLE, error) from error
    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(kind, "onnx", library_name="transformers")
    except KeyError:
        tasks = {}
    if TASK not in tasks:
        raise Refused(UNSUPPORTED, f"optimum-onnx {version('optimum-onnx')} does not export {kind} for {TASK}")
    return config


def record(config: PretrainedConfig, target: Path) -> dict[str, object]:
    """What was exported, and by which versions. ends: tokens that end a text."""
    written = (
        json.loads((target / "generation_config.json").read_text()) if (target / "generation_config.json").exists() else {}
    )
    ends = written.get("eos_token_id", getattr(config, "eos_token_id", None))
    return {
        "architecture": getattr(config, "model_type", ""),
        "vocabulary": getattr(config, "vocab_size", None),
        "context": getattr(config, "max_position_embeddings", None),
        "ends": [end for end in (ends if isinstance(ends, list) else [ends]) if end is not None],
        "versions": {name: version(name) for name in ("optimum", "optimum-onnx", "transformers", "torch", "onnx")},
    }


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except Refused as refused:
        print(refused)
        sys.exit(refused.status)
