"""How fast the trainer is beside plain transformers Trainer, on the same data and machine: python -m tests.bench.training.run

LoRA (r 16, all linear layers, float32 on a CPU, AdamW) of a model of SmolLM2-135M's shape with random weights, or of --base;
conversations as long as those of tool calls are, or drawn from --tokens. Held fixed: the conversations, 4 of them an update (a
packed row holds as many tokens as 4 of them have), a weight of 1 for all that replies say. The learning rate is so small that
nothing is learnt: the loss over the data must then be the same in every way, and is shown.

Each way is a process of its own, in turns. Only tokens that are not padding count. Start-up is left out: all is from the end of
the first update to that of the last. Tokens per second of a core hold on a busy machine, tokens per second only on a quiet one.
The last line is one JSON object with medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from services.training.plan import WEIGHTS, Plan
from services.training.token_file import TokenFile

ROOT = Path(__file__).parents[3]
ROWS = 4
RATE = 1e-9
OURS = ("packed", "sorted")
PLAIN = ("plain", "grouped", "flattened")
SMOLLM2 = """
import sys; from transformers import LlamaConfig, LlamaForCausalLM
LlamaForCausalLM(LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True)).save_pretrained(sys.argv[1])
"""


def main() -> None:
    """Measure, show, and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a model's folder")
    parser.add_argument("--tokens", type=Path, help="a token file")
    parser.add_argument("--conversations", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: as torch finds")
    parser.add_argument("--only", default=",".join([*PLAIN, *OURS]))
    asked = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in asked.only.split(",")}
    with tempfile.TemporaryDirectory(prefix="mpt-") as scratch:
        folder = Path(scratch)
        base = asked.base or folder / "base"
        if asked.base is None:
            _python("-c", SMOLLM2, str(base))
        file = TokenFile.read(asked.tokens) if asked.tokens else conversations(asked.conversations)
        drawn = np.random.default_rng(0).permutation(len(file))[: asked.conversations]
        file.take(drawn).write(folder / "train.npz")
        for number in range(asked.rounds):
            for way, figures in found.items():
                train = _ours if way in OURS else _plain
                figures.append(train(way, base, folder / "train.npz", folder / f"{way}-{number}", asked.threads))
                print(json.dumps({"way": way, **{name: round(one, 4) for name, one in figures[-1].items()}}), flush=True)
    print(json.dumps({
        f"train_{way}_{name}": round(statistics.median(one[name] for one in figures), 4)
        for way, figures in found.items() for name in figures[0]
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


def _ours(way: str, base: Path, tokens: Path, out: Path, threads: int) -> dict[str, float]:
    lengths = TokenFile.read(tokens).lengths
    row = max(int(lengths.mean() * ROWS), int(lengths.max()))
    labels = {name: float(name != "context") for name in WEIGHTS}
    plan = Plan(
        str(base), str(tokens), "", str(out), packing=way == "packed", batch=1 if way == "packed" else ROWS, accumulate=1,
        length=row, learning_rate=RATE, save_every=0, threads=threads, weights=labels,
    )  # fmt: skip
    plan.write(out.with_suffix(".json"))
    return _figures("our_trainer", str(out.with_suffix(".json")))


def _plain(way: str, base: Path, tokens: Path, out: Path, threads: int) -> dict[str, float]:
    return _figures("plain_trainer", str(base), str(tokens), way, str(ROWS), str(threads))


def _figures(program: str, *arguments: str) -> dict[str, float]:
    figures: dict[str, float] = json.loads(_python("-m", f"tests.bench.training.{program}", *arguments)[-1])
    if figures["updates"] < 2:
        raise SystemExit("too few conversations: one update tells no speed; take more (--conversations)")
    return figures


def _python(*command: str) -> list[str]:
    from tests.support.training_python import training_python

    variables = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run([training_python(), *command], env=variables, capture_output=True, text=True, check=False, cwd=ROOT)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}\n{ended.stdout[-500:]}{ended.stderr[-2000:]}")
    return ended.stdout.splitlines()


if __name__ == "__main__":
    main()
