"""A quick look at how fast a built model is on this machine: prefill, decode and first tokens, one stream."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import MilepostError

if TYPE_CHECKING:
    from services.llm.onnx_model import OnnxModel
    from services.llm.session import Provider

ROUNDS = 3
TOKENS = 48
LINES, LINE_BYTES = 24, 64


@dataclass(frozen=True)
class Figures:
    """Tokens a second, and milliseconds to the first token with nothing kept and with the same prompt kept; medians."""

    prefill_tok_s: float
    decode_tok_s: float
    ttft_cold_ms: float
    ttft_warm_ms: float
    prompt_tokens: int
    load_s: float
    provider: str


async def bench(folder: Path, *, threads: int | None, provider: Provider, seconds: float) -> Figures:
    """Measure a built folder, for so many seconds at most after the first round. Raises what OnnxModel.load raises."""
    import asyncio

    from services.llm.build import read_manifest
    from services.llm.onnx_model import OnnxModel

    model = await asyncio.to_thread(OnnxModel.load, folder, threads=threads, provider=provider)
    try:
        until = time.monotonic() + seconds
        lines = max(1, min(LINES, (read_manifest(folder).context - 2 * TOKENS) // LINE_BYTES))
        rounds = [await _round(model, 0, lines)]
        for number in range(1, ROUNDS):
            if time.monotonic() < until:
                rounds.append(await _round(model, number, lines))
    finally:
        model.close()
    prefill, decode, cold, warm, prompt = (sorted(column)[len(column) // 2] for column in zip(*rounds, strict=True))
    return Figures(prefill, decode, cold, warm, int(prompt), model.load_s, model.provider)


async def _round(model: OnnxModel, number: int, count: int) -> tuple[float, float, float, float, float]:
    """One prompt that no round before had, then the same again."""
    from schemas.messages import Message, Prompt, Sampling

    lines = "\n".join(f"{number}.{line}: server i-{line * 37:04d} in cn-hangzhou expires soon" for line in range(count))
    ask = f"Round {number}. Repeat this list, line by line:\n{lines}"
    prompt = Prompt(messages=(Message(role="user", content=ask),), sampling=Sampling(max_tokens=TOKENS))
    cold = await model.generate(prompt, on_text=lambda _: None)
    warm = await model.generate(prompt, on_text=lambda _: None)
    said = cold.usage.completion_tokens
    if said < 2:
        raise MilepostError(f"{model.name} said too little to be measured.", why=f"{said} tokens", hint="try another model")
    decode = (said - 1) / (cold.total_ms - cold.first_token_ms) * 1000
    prefill = cold.usage.prompt_tokens / cold.first_token_ms * 1000
    return prefill, decode, cold.first_token_ms, warm.first_token_ms, float(cold.usage.prompt_tokens)
