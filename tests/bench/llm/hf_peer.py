"""transformers' side, asked in lines of JSON: python hf_peer.py FOLDER THREADS PROVIDER

On a CPU it serves in the one of float32 and bfloat16 that decodes faster here, on a GPU in bfloat16. A request is the
prompts of a batch, of equal length, and how many tokens to write to each; the answer, counted from the request: first_s,
when the first token of all was known, and ended_s.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

PROBE = [list(range(100, 132))]


class Clock(BaseStreamer):  # type: ignore[misc]  # transformers is not where mypy runs
    """Notes when tokens come; the prompt is the first that comes."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


def speak(model: PreTrainedModel, prompts: list[list[int]], tokens: int) -> dict[str, float]:
    clock = Clock()
    asked = time.perf_counter()
    ids = torch.tensor(prompts, device=model.device)
    model.generate(
        ids, attention_mask=torch.ones_like(ids), streamer=clock, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens
    )
    return {"first_s": clock.times[1] - asked, "ended_s": clock.times[tokens] - asked}


def opened(folder: str, dtype: torch.dtype, device: str) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    speak(model, PROBE, 2)
    return model


def faster(folder: str) -> PreTrainedModel:
    """The model in the type of number that decodes faster on this CPU."""
    models = [opened(folder, dtype, "cpu") for dtype in (torch.float32, torch.bfloat16)]

    def seconds(model: PreTrainedModel) -> float:
        took = speak(model, PROBE, 12)
        return took["ended_s"] - took["first_s"]

    return min(models, key=seconds)


def main(folder: str, threads: int, provider: str) -> None:
    torch.set_num_threads(threads)
    with torch.inference_mode():
        model = faster(folder) if provider == "cpu" else opened(folder, torch.bfloat16, "cuda")
        print(json.dumps({"ready": True, "serves": f"in {model.dtype}"}), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps(speak(model, asked["prompts"], asked["tokens"])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
