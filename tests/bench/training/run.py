"""How fast the trainer is beside plain transformers Trainer, on the same data and machine: python -m tests.bench.training.run

LoRA (r 16) of a model of SmolLM2-135M's shape with random weights, or of --base; conversations as long as those of tool calls
are, or --tokens. Each way trains once over the same conversations, in turns; tokens are counted without padding. Tokens/s are
those after the first update; tokens per second of a core count the whole process, its start too, and hold on a busy machine.
The last line is one JSON object with medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from services.training.plan import WEIGHTS, Plan
from services.training.token_file import TokenFile
from tests.support.training_python import training_python

ROOT = Path(__file__).parents[3]
OURS: dict[str, dict[str, Any]] = {
    "packed": {"packing": True, "batch": 1, "accumulate": 4},
    "sorted": {"packing": False, "batch": 2, "accumulate": 4},
}
PLAIN = {"plain": 2, "plain_one_row": 1, "plain_grouped": 2}
LENGTH = 1024
NAMES = {"tok_s": "tokens_per_second", "tok_cpu_s": "cpu", "mib": "memory_mib"}
SMOLLM2 = """
import sys; from transformers import LlamaConfig, LlamaForCausalLM
LlamaForCausalLM(LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True)).save_pretrained(sys.argv[1])
"""


def main() -> None:
    """Measure, show, and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, help="a model's folder")
    parser.add_argument("--tokens", type=Path, help="a token file")
    parser.add_argument("--conversations", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default=",".join([*OURS, *PLAIN]))
    asked = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in asked.only.split(",")}
    with tempfile.TemporaryDirectory(prefix="mpt-") as scratch:
        folder = Path(scratch)
        base = asked.base or folder / "base"
        if asked.base is None:
            _python("-c", SMOLLM2, str(base))
        file = TokenFile.read(asked.tokens) if asked.tokens else conversations(asked.conversations)
        file.take(range(min(asked.conversations, len(file)))).write(folder / "train.npz")
        for number in range(asked.rounds):
            for way, figures in found.items():
                figures.append(_ours(way, base, folder, number) if way in OURS else _plain(way, base, folder))
                speed, cpu, memory = (figures[-1][key] for key in ("tokens_per_second", "cpu", "memory_mib"))
                print(f"{way}: {speed:.0f} tokens/s, {cpu:.0f} a second of a core, {memory:.0f} MiB", flush=True)
    print(json.dumps({
        f"train_{way}_{name}": round(statistics.median(one[key] for one in figures), 1)
        for way, figures in found.items() for name, key in NAMES.items()
    }))  # fmt: skip


def conversations(count: int) -> TokenFile:
    """Lengths of tool calls with their tools in the prompt: 150 to 1,000 tokens, a sixth of them replies."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(5.9, 0.45, count), 100, 1000).astype(int)
    kinds = [np.repeat([0, 1], [size - size // 6, size // 6]) for size in lengths]
    said = [
        (at, draw.integers(0, 49_000, size).tolist(), part.tolist())
        for at, (size, part) in enumerate(zip(lengths, kinds, strict=True))
    ]
    return TokenFile.of(said, tuple(WEIGHTS))


def _ours(way: str, base: Path, folder: Path, number: int) -> dict[str, float]:
    plan = Plan(str(base), str(folder / "train.npz"), "", str(folder / f"{way}-{number}"), length=LENGTH, save_every=0)
    replace(plan, **OURS[way]).write(folder / "plan.json")
    before = _cpu()
    events = [json.loads(line) for line in _python("-m", "services.training", str(folder / "plan.json"))]
    steps = [event for event in events if event["event"] == "step"]
    if len(steps) < 2:
        raise SystemExit("too few conversations: one update tells no speed; take more (--conversations)")
    tokens, seconds = (steps[-1][key] - steps[0][key] for key in ("tokens", "seconds"))
    memory = max(event["memory_mib"] for event in steps)
    return {"tokens_per_second": tokens / seconds, "cpu": steps[-1]["tokens"] / (_cpu() - before), "memory_mib": memory}


def _plain(way: str, base: Path, folder: Path) -> dict[str, float]:
    script = str(Path(__file__).with_name("plain_trainer.py"))
    before = _cpu()
    lines = _python(script, str(base), str(folder / "train.npz"), way.removeprefix("plain_"), str(PLAIN[way]))
    figures: dict[str, float] = json.loads(lines[-1])
    return figures | {"cpu": figures["tokens"] / (_cpu() - before)}


def _cpu() -> float:
    """Seconds of cores that children took so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _python(*command: str) -> list[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run([training_python(), *command], env=variables, capture_output=True, text=True, check=False, cwd=ROOT)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}\n{ended.stdout[-500:]}{ended.stderr[-2000:]}")
    return ended.stdout.splitlines()


if __name__ == "__main__":
    main()
