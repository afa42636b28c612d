"""Our llm engine beside onnxruntime-genai, llama.cpp and transformers: python -m tests.bench.llm.run

The same weights on the same machine in one run, each side a process that has its model loaded. Every side takes its turn in
every repetition, so that a busy moment of the machine hits all of them; a figure is the median of its repetitions. The last
line is one JSON object; null stands where a side could not run, with the reason above. Ours goes the way of a request: through
OnnxModel.generate, with the tokenizer, the chat format, the guide and the scheduler; the peers get token ids.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from infra.models.catalogue import DEFAULT_TEXT_MODEL
from schemas.errors import MilepostError
from schemas.messages import Prompt
from services.llm.about import TOKENIZER
from services.llm.interface import GRAPH_FILE
from tests.bench.llm import places, prompts
from tests.bench.llm.lines import LineProcess, Reply
from tests.bench.llm.machine import THREADS, bandwidth, weights_read
from tests.bench.steps.places import Missing

PREFIXES = {DEFAULT_TEXT_MODEL: "", "smollm2-135m": "smollm2_"}
QUESTIONS = ("Explain these rules to a new colleague, at length and one after the other.",
             "Which of these rules matters most at night? Explain at length.")  # fmt: skip
WARM_TOKENS = 8
OURS = ("decode_tok_s", "prefill_tok_s", "ttft_cold_ms", "ttft_warm_ms", "decode8_tok_s", "constrained_ratio", "rss_mb",
        "decode_guessing_tok_s", "accepted_share", "decode_bandwidth_share", "read_gb_s", "renewal_s",
        "prompt_tokens")  # fmt: skip
PEERS = ("decode_tok_s", "prefill_tok_s", "decode8_tok_s")

Figures: TypeAlias = dict[str, float]
Measure: TypeAlias = Callable[[int], Awaitable[Figures]]
Open: TypeAlias = Callable[[AsyncExitStack, "Task"], Awaitable[Measure]]


@dataclass(frozen=True, slots=True)
class Task:
    """What is measured: one model, tokens to write, and the numbers of streams at once."""

    model: str
    provider: str
    tokens: int
    streams: tuple[int, ...]


@dataclass(slots=True)
class Side:
    """One that is measured."""

    title: str
    prefix: str
    open: Open
    measure: Measure | None = None
    figures: list[Figures] = field(default_factory=list)

    async def attempt(self, work: Awaitable[object]) -> object:
        """The result of some work of this side; None and a printed reason when it fails, which breaks nobody else."""
        try:
            return await work
        except (Missing, MilepostError, OSError) as error:
            self.measure = None
            print(f"{self.title}: null, because {error}", flush=True)
            return None

    def median(self, name: str) -> float | None:
        values = [each[name] for each in self.figures if name in each]
        return statistics.median(values) if values else None


# --- our side -----------------------------------------------------------------------------------------------------


async def ours(stack: AsyncExitStack, task: Task) -> Measure:
    process = await _ours(stack, task, "ours", "--slots", str(max(task.streams)))
    await _ask(process, [prompts.story(0, 4)])
    cpu = task.provider == "cpu"
    read = weights_read(await places.served_folder(task.model, task.provider) / GRAPH_FILE) if cpu else 0

    async def measure(repetition: int) -> Figures:
        figures = await _alone(process, task)
        for number in task.streams:
            streams = (await _ask(process, [prompts.story(each, task.tokens) for each in range(number)]))["streams"]
            figures[f"decode{number}_tok_s"] = _rate(streams)
        if constrained := await _constrained(process):
            figures["constrained_ratio"] = constrained / figures["decode_tok_s"]
        if cpu:
            available = await asyncio.to_thread(bandwidth, read)
            figures["read_gb_s"] = available / 1e9
            figures["decode_bandwidth_share"] = read * figures["decode_tok_s"] / available
        return figures

    return measure


async def _alone(process: LineProcess, task: Task) -> Figures:
    """One stream: a prompt of which nothing is known, then the same but for its last line."""
    salt = secrets.token_hex(4)
    cold = (await _ask(process, [prompts.long_prompt(salt, QUESTIONS[0], task.tokens)]))["streams"][0]
    warm = (await _ask(process, [prompts.long_prompt(salt, QUESTIONS[1], WARM_TOKENS)]))["streams"][0]
    return {
        "prompt_tokens": cold["prompt_tokens"],
        "prefill_tok_s": (cold["prompt_tokens"] - cold["cached_tokens"]) / cold["first_s"],
        "decode_tok_s": _rate([cold]),
        "ttft_cold_ms": cold["heard_s"] * 1000,
        "ttft_warm_ms": warm["heard_s"] * 1000,
    }


async def _constrained(process: LineProcess) -> float | None:
    """Tokens a second of tool calls, those that the grammar forces among them; None if nothing makes the model call."""
    for form in (prompts.renewal_call, prompts.forced_call):
        asked = [form(f"i-bp1{secrets.token_hex(8)}") for _ in range(3)]
        spoken = [(await _ask(process, [prompt]))["streams"][0] for prompt in asked]
        if all(each["finish"] == "calls" or each["said"].startswith('{"name"') for each in spoken):
            seconds = sum(float(each["ended_s"] - each["first_s"]) for each in spoken)
            return sum(int(each["tokens"]) - 1 for each in spoken) / seconds
    return None


async def guessing(stack: AsyncExitStack, task: Task) -> Measure:
    """The same with speculation, which is off by default: tokens guessed ahead from the prompt."""
    process = await _ours(stack, task, "guessing", "--slots", "1", "--speculate")
    await _ask(process, [prompts.story(0, 4)])

    async def measure(repetition: int) -> Figures:
        prompt = prompts.long_prompt(secrets.token_hex(4), QUESTIONS[0], task.tokens)
        said = (await _ask(process, [prompt]))["streams"][0]
        return {"decode_guessing_tok_s": _rate([said]), "accepted_share": said["accepted"] / said["tokens"]}

    return measure


async def service(stack: AsyncExitStack, task: Task) -> Measure:
    """What the llm service holds in memory and how long a renewal's two generations take it, one after the other."""
    process = await _ours(stack, task, "service")
    await _ask(process, [prompts.renewal_call("i-bp1warm")])

    async def measure(repetition: int) -> Figures:
        instance = f"i-bp1{secrets.token_hex(8)}"
        called = await _ask(process, [prompts.renewal_call(instance)])
        if called["streams"][0]["finish"] != "calls":
            return {"rss_mb": called["rss_mb"]}
        answered = await _ask(process, [prompts.renewal_answer(instance)])
        spoken = [called["streams"][0], answered["streams"][0]]
        for each in spoken:
            print(f"  renewal: read {each['prompt_tokens']} tokens, knew {each['cached_tokens']}; said {each['said'][:200]!r}")
        return {"renewal_s": sum(each["ended_s"] for each in spoken), "rss_mb": answered["rss_mb"]}

    return measure


async def _ours(stack: AsyncExitStack, task: Task, log: str, *options: str) -> LineProcess:
    command = (sys.executable, "-m", "tests.bench.llm.ours", task.model, "--provider", task.provider, *options)
    return await _started(stack, command, task, log)


async def _ask(process: LineProcess, asked: Sequence[Prompt]) -> Reply:
    return await process.ask({"prompts": [prompt.model_dump(mode="json") for prompt in asked]})


def _rate(streams: Iterable[Mapping[str, float]]) -> float:
    """Tokens a second of streams that ran side by side, from the first token of all to the last; the first is prefill's."""
    each = list(streams)
    began, ended = min(stream["first_s"] for stream in each), max(stream["ended_s"] for stream in each)
    return sum(stream["tokens"] - 1 for stream in each) / (ended - began)


# --- the peers ----------------------------------------------------------------------------------------------------


def genai(variant: str) -> Open:
    async def open_(stack: AsyncExitStack, task: Task) -> Measure:
        python = await _python(task)
        folder = await places.genai_folder(python, await places.gguf_file(task.model), task.model, variant, task.provider)
        peer = places.HERE / "genai_peer.py"
        return await _peer(stack, (python, peer, folder, str(THREADS), task.provider), task, f"genai-{variant}")

    return open_


async def llamacpp(stack: AsyncExitStack, task: Task) -> Measure:
    node, library = await places.node_llama_cpp()
    peer, gguf = places.HERE / "llamacpp_peer.mjs", await places.gguf_file(task.model)
    command = (node, peer, library, gguf, str(THREADS), str(max(task.streams)))
    return await _peer(stack, command, task, "llamacpp")


async def transformers(stack: AsyncExitStack, task: Task) -> Measure:
    python = await _python(task)
    folder = await places.dense_folder(python, await places.gguf_file(task.model), task.model)
    command = (python, places.HERE / "hf_peer.py", folder, str(THREADS), task.provider)
    return await _peer(stack, command, task, "transformers")


async def _python(task: Task) -> Path:
    return await places.python_with("requirements.txt" if task.provider == "cpu" else "requirements-cuda.txt")


async def _peer(stack: AsyncExitStack, command: tuple[str | Path, ...], task: Task, log: str) -> Measure:
    """A peer reads the very tokens that ours reads, and writes as many."""
    process = await _started(stack, command, task, log)
    ids = await _tokenizer(task)
    await process.ask({"prompts": [ids(prompts.story(0, 4))], "tokens": 4})

    async def measure(repetition: int) -> Figures:
        prompt = ids(prompts.long_prompt(secrets.token_hex(4), QUESTIONS[0], task.tokens))
        took = await process.ask({"prompts": [prompt], "tokens": task.tokens})
        figures = {
            "prefill_tok_s": len(prompt) / took["first_s"],
            "decode_tok_s": (task.tokens - 1) / (took["ended_s"] - took["first_s"]),
        }
        for number in task.streams:
            took = await process.ask({"prompts": [ids(prompts.story(0, task.tokens))] * number, "tokens": task.tokens})
            figures[f"decode{number}_tok_s"] = number * (task.tokens - 1) / (took["ended_s"] - took["first_s"])
        return figures

    return measure


async def _tokenizer(task: Task) -> Callable[[Prompt], list[int]]:
    """From a prompt without tools to ChatML's tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(await places.served_folder(task.model, task.provider) / TOKENIZER))

    def ids(prompt: Prompt) -> list[int]:
        turns = "".join(f"<|im_start|>{each.role}\n{each.content}<|im_end|>\n" for each in prompt.messages)
        return list(tokenizer.encode(f"{turns}<|im_start|>assistant\n", add_special_tokens=False).ids)

    return ids


async def _started(stack: AsyncExitStack, command: tuple[str | Path, ...], task: Task, log: str) -> LineProcess:
    process = await LineProcess.start(command, places.PLACE / task.model / f"{log}.log")
    stack.push_async_callback(process.close)
    if "serves" in process.said:
        print(f"{log} serves {process.said['serves']}", flush=True)
    return process


# --- the run ------------------------------------------------------------------------------------------------------


def sides(provider: str) -> list[Side]:
    ran = [
        Side("Milepost", "", ours),
        Side("Milepost, guessing ahead", "", guessing),
        Side("Milepost, as its llm service", "", service),
        *(Side(f"onnxruntime-genai, {variant}", "genai_", genai(variant)) for variant in places.VARIANTS),
        Side("transformers", "hf_", transformers),
    ]
    return [*ran, Side("llama.cpp", "llamacpp_", llamacpp)] if provider == "cpu" else ran


async def measured(task: Task, wanted: Sequence[str], repeats: int) -> list[Side]:
    """The sides, each with its figures of every repetition."""
    chosen = [side for side in sides(task.provider) if not side.prefix or side.prefix.rstrip("_") in wanted]
    async with AsyncExitStack() as stack:
        for side in chosen:
            side.measure = await side.attempt(side.open(stack, task))  # type: ignore[assignment]
        for repetition in range(repeats):
            print(f"{task.model}: repetition {repetition + 1} of {repeats}", flush=True)
            for side in chosen:
                if side.measure and (figures := await side.attempt(side.measure(repetition))):
                    side.figures.append(figures)  # type: ignore[arg-type]
                    print(f"  {side.title}: done", flush=True)
    return chosen


def _show(side: Side) -> None:
    print(f"\n{side.title}")
    for name in sorted({name for each in side.figures for name in each}):
        values = ", ".join(f"{each[name]:.4g}" for each in side.figures if name in each)
        print(f"  {name:26} {side.median(name):10.4g}   ({values})")


def summary(ran: Sequence[Side], task: Task) -> dict[str, float | None]:
    """The medians by name; of a peer that runs in several forms the better one of each figure."""
    streams = [f"decode{number}_tok_s" for number in task.streams]
    names = {"": (*OURS, *streams), "genai_": (*PEERS, *streams), "llamacpp_": (*PEERS, *streams), "hf_": (*PEERS, *streams)}
    found: dict[str, float | None] = {}
    for prefix, wanted in names.items():
        for name in wanted:
            values = [value for side in ran if side.prefix == prefix if (value := side.median(name)) is not None]
            found[f"{PREFIXES.get(task.model, '')}{prefix}{name}"] = float(f"{max(values):.4g}") if values else None
    return found


async def main(arguments: argparse.Namespace) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for model in arguments.model or list(PREFIXES):
        streams = (8,) if arguments.provider == "cpu" else (8, 64, 256)
        task = Task(model, arguments.provider, 32 if arguments.quick else 128, streams)
        ran = await measured(task, arguments.peers.split(","), arguments.repeats)
        for side in ran:
            _show(side)
        found |= summary(ran, task)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", action="append", help=f"one of the catalogue; {' and '.join(PREFIXES)} if none is named")
    parser.add_argument("--provider", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--peers", default="genai,llamacpp,hf", help="those to run beside ours")
    parser.add_argument("--repeats", type=int, default=3, help="how often every side takes its turn")
    parser.add_argument("--quick", action="store_true", help="32 tokens in place of 128")
    print(f"\n{json.dumps(asyncio.run(main(parser.parse_args())))}")
