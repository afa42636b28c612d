"""onnxruntime-genai's side, asked in lines of JSON: python genai_peer.py FOLDER THREADS PROVIDER

A request is the prompts of a batch, of equal length, and how many tokens to write to each; the answer, counted from the
request: first_s, when the first token of all was known, and ended_s.
"""

from __future__ import annotations

import json
import sys
import time

import onnxruntime_genai as og


def open_model(folder: str, threads: int, provider: str) -> og.Model:
    config = og.Config(folder)
    if provider == "cpu":
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    return og.Model(config)


def speak(model: og.Model, prompts: list[list[int]], tokens: int) -> dict[str, float]:
    params = og.GeneratorParams(model)
    length = len(prompts[0]) + tokens
    # A minimal length of the whole keeps the end of a message from being chosen.
    params.set_search_options(do_sample=False, batch_size=len(prompts), max_length=length, min_length=length)
    asked = time.perf_counter()
    generator = og.Generator(model, params)
    generator.append_tokens(prompts if len(prompts) > 1 else prompts[0])
    generator.generate_next_token()
    generator.get_next_tokens()
    first = time.perf_counter() - asked
    for _ in range(tokens - 1):
        generator.generate_next_token()
        generator.get_next_tokens()
    return {"first_s": first, "ended_s": time.perf_counter() - asked}


def main(folder: str, threads: int, provider: str) -> None:
    model = open_model(folder, threads, provider)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(speak(model, asked["prompts"], asked["tokens"])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
