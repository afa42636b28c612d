"""What guessing ahead is worth: python -m tests.bench.llm.speculation

The same greedy answers with and without n-gram speculation, in turns: one that copies much of its prompt, and a free text.
The last line is one JSON object: tokens a second of each, and the share of the copied answer's tokens that were guessed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from contextlib import AsyncExitStack

from infra.models.catalogue import DEFAULT_TEXT_MODEL
from schemas.messages import Message, Prompt, Sampling
from tests.bench.llm import places, prompts
from tests.bench.llm.lines import LineProcess, Reply

COPY = "Repeat rules 3 and 4 of the handbook word for word, then stop."


def asked(tokens: int) -> dict[str, Prompt]:
    """The two prompts, by what their answer is."""
    system = Message(role="system", content=prompts.HANDBOOK)
    user = Message(role="user", content=COPY, origin="user")
    return {
        "copied": Prompt(messages=(system, user), sampling=Sampling(max_tokens=tokens)),
        "free": prompts.story(0, tokens),
    }


async def main(model: str, repeats: int, tokens: int) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        sides = {"on": await _started(stack, model, "on", "--speculate"), "off": await _started(stack, model, "off")}
        for repetition in range(repeats + 1):
            for kind, prompt in asked(tokens).items():
                spoken = {name: await _spoken(process, prompt) for name, process in sides.items()}
                if (alike := _alike(spoken["on"]["said"], spoken["off"]["said"])) is not None:
                    print(f"{kind}: the answers differ after {alike} characters")
                if repetition == 0:
                    continue  # it warms up
                for name, each in spoken.items():
                    rate = (each["tokens"] - 1) / (each["ended_s"] - each["first_s"])
                    found.setdefault(f"{kind}_{name}_tok_s", []).append(rate)
                share = spoken["on"]["accepted"] / spoken["on"]["tokens"]
                found.setdefault(f"{kind}_accepted_share", []).append(share)
    return {name: float(f"{statistics.median(values):.4g}") for name, values in found.items()}


async def _spoken(process: LineProcess, prompt: Prompt) -> Reply:
    return dict((await process.ask({"prompts": [prompt.model_dump(mode="json")]}))["streams"][0])


def _alike(one: str, other: str) -> int | None:
    """How many characters two texts share from their beginning; None if they are the same."""
    if one == other:
        return None
    return next((place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), len(one))


async def _started(stack: AsyncExitStack, model: str, name: str, *options: str) -> LineProcess:
    command = (sys.executable, "-m", "tests.bench.llm.ours", model, "--slots", "1", *options)
    process = await LineProcess.start(command, places.PLACE / model / f"speculation-{name}.log")
    stack.push_async_callback(process.close)
    return process


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_TEXT_MODEL)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=256)
    chosen = parser.parse_args()
    print(json.dumps(asyncio.run(main(chosen.model, chosen.repeats, chosen.tokens))))
