"""Our side: the model as the llm service holds it, asked in lines of JSON.

    python -m tests.bench.llm.ours MODEL --provider cpu --slots 8
    python -m tests.bench.llm.ours MODEL --provider cpu              as `milepost service llm` has it, with its defaults

A request is a list of prompts, to be answered at once. The answer is one line: when, counted from the request, each of them
began to speak (first_s: its first token was known; heard_s: its first text was heard) and ended, and what the process holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import cast

import psutil

from infra.settings import load
from infra.wiring import bring_model
from schemas.messages import Prompt
from services.llm.model import TextModel
from services.llm.onnx_model import OnnxModel
from services.llm.session import Provider
from tests.bench.llm.machine import THREADS
from tests.bench.llm.places import served_folder

Spoken = dict[str, float | int | str]


async def opened(name: str, provider: Provider, slots: int | None, *, speculate: bool) -> TextModel:
    """The model with so many slots; with None the very one that the service would bring."""
    settings = load({"model.name": name, "model.provider": provider}).settings
    if slots is None:
        return await bring_model(settings, name)
    folder = await served_folder(name, provider)
    threads = settings.model.threads or THREADS
    return await asyncio.to_thread(OnnxModel.load, folder, slots=slots, threads=threads, provider=provider, speculate=speculate)


async def spoken(model: TextModel, prompt: Prompt, asked: float) -> Spoken:
    """How one prompt was answered."""
    heard: list[float] = []
    generation = await model.generate(prompt, on_text=lambda _: heard.append(time.perf_counter() - asked))
    ended = time.perf_counter() - asked
    return {
        "prompt_tokens": generation.usage.prompt_tokens,
        "cached_tokens": generation.usage.cached_tokens,
        "tokens": generation.usage.completion_tokens,
        "drafted": generation.drafted,
        "accepted": generation.accepted,
        "finish": generation.finish,
        "first_s": ended - (generation.total_ms - generation.first_token_ms) / 1000,
        "heard_s": heard[0] if heard else ended,
        "ended_s": ended,
        "said": generation.text or " ".join(f"{call.name} {json.dumps(call.arguments)}" for call in generation.calls),
    }


async def main(name: str, provider: Provider, slots: int | None, *, speculate: bool) -> None:
    model = await opened(name, provider, slots, speculate=speculate)
    print(json.dumps({"ready": True, "rss_mb": rss_mb()}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        prompts = [Prompt.model_validate(each) for each in json.loads(line)["prompts"]]
        asked = time.perf_counter()
        streams = await asyncio.gather(*(spoken(model, prompt, asked) for prompt in prompts))
        print(json.dumps({"streams": streams, "rss_mb": rss_mb()}), flush=True)


def rss_mb() -> float:
    """Resident memory of this process in units of 10^6 bytes, with the pages of the weights' file that it shares."""
    return float(psutil.Process().memory_info().rss) / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Our side of bench-llm.")
    parser.add_argument("model")
    parser.add_argument("--provider", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--slots", type=int)
    parser.add_argument("--speculate", action="store_true", help="guess ahead")
    chosen = parser.parse_args()
    asyncio.run(main(chosen.model, cast("Provider", chosen.provider), chosen.slots, speculate=chosen.speculate))
