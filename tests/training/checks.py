"""What the tests of the trainer measure where torch is: `python checks.py FOLDER` prints one JSON object.

It runs in the training environment, which has nothing of the tests'; the bounds are the tests' (test_worker.py).
torch takes seconds to start, so runs that are interrupted are forks of it; they come first, as gradients do not survive a fork.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from services.training.__main__ import main
from services.training.batch import arrays
from services.training.data import Data
from services.training.dev import measure
from services.training.model import WeightedModel, causal_of, learning, load
from services.training.packing import batches_of
from services.training.plan import WEIGHTS, Plan
from services.training.token_file import TokenFile
from services.training.weighting import conversation_loss

NAMES = tuple(WEIGHTS)
VOCABULARY = 97
CPU = torch.device("cpu")
CHECKS: list[Callable[[Path], object]] = []


def check(function: Callable[[Path], object]) -> Callable[[Path], object]:
    CHECKS.append(function)
    return function


def prepare(folder: Path) -> None:
    """A model of two layers and conversations that count upwards, which can be learnt."""
    torch.manual_seed(1)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    LlamaForCausalLM(LlamaConfig(**sizes, **heads, bos_token_id=1, eos_token_id=2)).save_pretrained(folder / "base")
    (folder / "base/tokenizer.json").write_text("{}")
    draw = np.random.default_rng(0)
    for name, count in (("train", 120), ("dev", 12)):
        TokenFile.of([(at, *conversation(draw)) for at in range(100, 100 + count)], NAMES).write(folder / f"{name}.npz")


def conversation(draw: np.random.Generator) -> tuple[list[int], list[int]]:
    size = int(draw.integers(8, 40))
    said = size // 2
    tokens = (int(draw.integers(0, 90)) + np.arange(size) * int(draw.integers(1, 3))) % (
        VOCABULARY - 1
    )  # the last one is never said
    return tokens.tolist(), [0] * (size - said) + draw.integers(0, len(NAMES), said).tolist()


def plan(folder: Path, name: str, **told: Any) -> Plan:
    usual: dict[str, Any] = {
        "length": 64,
        "batch": 2,
        "accumulate": 2,
        "steps": 8,
        "learning_rate": 1e-2,
        "warmup": 0.1,
        "evaluate_every": 3,
        "save_every": 2,
        "threads": 1,
    }
    paths = (folder / "base", folder / "train.npz", folder / "dev.npz", folder / name)
    return Plan(*map(str, paths), **(usual | told))


def run(plan: Plan) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of a run and what it told."""
    path = Path(plan.out + ".json")
    plan.write(path)
    with contextlib.redirect_stdout(io.StringIO()) as told:
        code = main([str(path)])
    AcceleratorState._reset_state(reset_partial_state=True)
    return code, [json.loads(line) for line in told.getvalue().splitlines()]


def of(events: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [one for one in events if one["event"] == event]


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of gradients, beside the largest gradient."""
    assert set(one) == set(other)
    return max(float((one[name] - other[name]).abs().max()) for name in one) / max(
        float(held.abs().max()) for held in one.values()
    )


def oracle(data: Data, base: Path, weights: dict[str, float]) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss over all conversations, each alone through transformers' plain attention, with numpy's loss and its gradient."""
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    by_token = data.file.weights(weights).astype(np.float64)
    total = sum(
        float(by_token[int(start) + 1 : int(end)].sum())
        for start, end in zip(data.file.offsets, data.file.offsets[1:], strict=False)
    )
    loss = 0.0
    for start, end in zip(data.file.offsets, data.file.offsets[1:], strict=False):
        tokens = data.file.tokens[start:end].astype(np.int64)
        logits = model(input_ids=torch.from_numpy(tokens)[None]).logits[0]
        part, gradient = conversation_loss(logits.detach().double().numpy(), tokens, by_token[start:end], total=total)
        logits.backward(torch.from_numpy(gradient).float())
        loss += part
    return loss, {name: one.grad.clone() for name, one in model.named_parameters()}


WHOLE: dict[str, Any] = {"steps": 0, "epochs": 4, "batch": 1, "evaluate_every": 10, "save_every": 4, "dropout": 0.1}
"""A run long enough to be interrupted twice."""


def begun(path: Path) -> tuple[int, TextIO]:
    """A run in a process of its own, and what it tells."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(writing, 1)
            code = main([str(path)])
        finally:
            os._exit(code)
    os.close(writing)
    return child, os.fdopen(reading)


def told_until(told: TextIO, step: int) -> None:
    events = (json.loads(line) for line in told)
    if not any(one["event"] == "step" and one["step"] == step for one in events):
        raise AssertionError(f"it ended before step {step}")


@check
def interrupted(folder: Path) -> object:
    """A run is stopped by SIGTERM, goes on, and is killed; its test lets it end."""
    path = folder / "interrupted.json"
    plan(folder, "interrupted", **WHOLE).write(path)
    child, told = begun(path)
    with told:
        told_until(told, 5)
        os.kill(child, signal.SIGTERM)
        events = [json.loads(line) for line in told]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    stopped = {"code": code, "last": [one["event"] for one in events[-2:]], "step": events[-1]["step"]}
    child, told = begun(path)
    with told:
        told_until(told, stopped["step"] + 6)
        os.kill(child, signal.SIGKILL)
    return {"stopped": stopped, "killed": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}


@check
def weighted_loss(folder: Path) -> object:
    """Loss and gradients of whole updates beside the oracle's, packed or not, checkpointed or not."""
    answer = {}
    for packing in (True, False):
        for checkpointing in (True, False):
            asked = plan(folder, "unused", method="full", packing=packing, checkpointing=checkpointing)
            data = Data.read(folder / "dev.npz", asked)
            expected, gradients = oracle(data, folder / "base", asked.weights)
            model = load(asked, CPU, VOCABULARY)
            weighted = WeightedModel(model).train()
            widths: list[int] = []
            model.get_output_embeddings().register_forward_hook(lambda _, given, __, to=widths: to.append(given[0].shape[1]))
            forwards: list[None] = []
            model.get_decoder().layers[0].mlp.register_forward_pre_hook(lambda *_, to=forwards: to.append(None))
            loss, predicted = 0.0, 0
            batches = batches_of(data.lengths, asked.length, asked.batch, packing=packing, seed=(0, 0))
            for batch in batches:
                made = arrays(data.file, data.weights, batch, packed=packing)
                each, _ = weighted(made)
                part = (each * torch.from_numpy(made.weights)).sum() / float(data.conversation_weights.sum())
                part.backward()
                loss += float(part.detach())
                predicted += len(each)
            found = {name: one.grad for name, one in model.named_parameters()}
            answer[f"packing={packing} checkpointing={checkpointing}"] = {
                "loss": abs(loss - expected),
                "gradients": farthest(gradients, found),
                "batches": len(batches),
                "predicted": predicted,
                "weighted_tokens": data.weighted_tokens,
                "head": sum(widths),
                "forwards": len(forwards),
                "tokens": int(data.lengths.sum()),
            }
    return answer


@check
def fused_layers(folder: Path) -> object:
    """An adapter's layers computed in one step beside peft's own, with B that is no longer zero."""
    asked = plan(folder, "unused")
    data = Data.read(folder / "dev.npz", asked)
    made = arrays(data.file, data.weights, [[0, 1]], packed=True)
    answer = {}
    for kind, precision in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        found = []
        for plain in (True, False):
            model = load(plan(folder, "unused", precision=precision), CPU, VOCABULARY)
            torch.manual_seed(4)
            for name, one in learning(model).items():
                if "lora_B" in name:
                    torch.nn.init.normal_(one, std=0.1)
            fused = [layer for layer in model.modules() if "forward" in vars(layer)]
            if plain:
                for layer in fused:
                    del layer.forward
            with torch.autocast("cpu", torch.bfloat16, enabled=kind is torch.bfloat16):
                each, _ = WeightedModel(causal_of(model)).train()(made)
            each.sum().backward()
            found.append(({name: one.grad for name, one in learning(model).items()}, float(each.detach().sum()), len(fused)))
        (gradients, loss, _), (other_gradients, other_loss, count) = found
        answer[precision] = {
            "loss": abs(loss - other_loss) / loss,
            "gradients": farthest(gradients, other_gradients),
            "layers": count,
            "dtypes": sorted({str(one.dtype) for one in gradients.values()}),
        }
    return answer


@check
def conversations_apart(folder: Path) -> object:
    """How much a conversation's losses change when the one before it in its row says something else: not at all."""
    asked = plan(folder, "unused")
    data = Data.read(folder / "dev.npz", asked)
    weighted = WeightedModel(causal_of(load(asked, CPU, VOCABULARY))).eval()
    made = arrays(data.file, data.weights, [[0, 1]], packed=True)
    first = int((made.columns[made.at] < made.segments[0]).sum())
    with torch.no_grad():
        before = weighted(made)[0][first:]
        made.tokens[0, : made.segments[0]] = 5
        after = weighted(made)[0][first:]
    return {"difference": float((before - after).abs().max()), "count": len(after)}


@check
def full_and_early(folder: Path) -> object:
    """Full weights; training ends early at a rate that spoils the model, and the best weights are the final ones."""
    asked = plan(
        folder, "early", method="full", learning_rate=0.4, warmup=0.0, steps=40, evaluate_every=1, patience=2, save_every=0
    )
    code, events = run(asked)
    evaluated = of(events, "evaluated")
    best = min(evaluated, key=lambda one: one["loss"])
    final = folder / "early/final"
    model = AutoModelForCausalLM.from_pretrained(final, attn_implementation="sdpa")
    data = Data.read(folder / "dev.npz", asked)
    scores = measure(WeightedModel(model), data, plan(folder, "unused", packing=False), Accelerator(cpu=True))
    AcceleratorState._reset_state(reset_partial_state=True)
    return {
        "code": code,
        "reason": events[-1]["reason"],
        "steps": events[-1]["steps"],
        "best": best["step"],
        "told_best": events[-1]["best_step"],
        "after_best": len([one for one in evaluated if one["step"] > best["step"]]),
        "loss": abs(scores.loss - best["loss"]),
        "files": sorted(file.name for file in final.iterdir()),
    }


@check
def adapter_in_peft(folder: Path) -> object:
    """peft loads the adapter, and it predicts as well as was told; what was learnt; what the result says."""
    asked = plan(folder, "adapter", steps=30, epochs=0)
    code, events = run(asked)
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    model = PeftModel.from_pretrained(base, folder / "adapter/final").get_base_model()
    data = Data.read(folder / "dev.npz", asked)
    scores = measure(WeightedModel(model), data, plan(folder, "unused", packing=False), Accelerator(cpu=True))
    AcceleratorState._reset_state(reset_partial_state=True)
    result = json.loads((folder / "adapter/result.json").read_text())
    config = json.loads((folder / "adapter/final/adapter_config.json").read_text())
    steps = of(events, "step")
    lines = (folder / "adapter/metrics.jsonl").read_text().splitlines()
    again = run(asked)
    return {
        "code": code,
        "loss": abs(scores.loss - events[-1]["dev"]["loss"]),
        "first": of(events, "evaluated")[0]["loss"],
        "last": scores.loss,
        "result": {name: result[name] for name in ("reason", "steps", "seed", "devices", "device", "versions")},
        "by_kind": sorted(result["dev"]["losses"]) == sorted(result["dev"]["accuracy"]),
        "kinds": sorted(result["dev"]["losses"]),
        "base": config["base_model_name_or_path"],
        "kept": sorted(one.name for one in (folder / "adapter/checkpoints").iterdir()),
        "metrics_are_events": [json.loads(line) for line in lines] == events,
        "again": [again[0], [one["event"] for one in again[1]]],
        "rates": [one["learning_rate"] for one in steps],
        "step": sorted(steps[0]),
        "tokens": steps[-1]["tokens"],
    }


@check
def same_twice(folder: Path) -> object:
    """The same plan twice, with dropout: losses and adapters bit for bit. With another seed: others."""
    found = []
    for name, seed in (("once", 3), ("twice", 3), ("other", 4)):
        _, events = run(plan(folder, name, seed=seed, dropout=0.1, packing=False, steps=4))
        found.append(
            ([one["loss"] for one in of(events, "step")], (folder / name / "final/adapter_model.safetensors").read_bytes())
        )
    return {"losses": found[0][0] == found[1][0], "bytes": found[0][1] == found[1][1], "other": found[0][0] == found[2][0]}


@check
def dropout_anew(folder: Path) -> object:
    """Gradients of one conversation over and over, at a rate that learns nothing: alike without dropout, else never."""
    TokenFile.read(folder / "train.npz").take([0]).write(folder / "one.npz")
    found = []
    for dropout in (0.0, 0.5):
        asked = plan(folder, f"over-{dropout}", dropout=dropout, learning_rate=1e-9, steps=3, epochs=0, evaluate_every=0)
        _, events = run(Plan(**{**vars(asked), "train": str(folder / "one.npz"), "batch": 1, "accumulate": 1}))
        norms = [one["gradient_norm"] for one in of(events, "step")]
        found.append(min(abs(one / other - 1) for one, other in itertools.combinations(norms, 2)))
    return found


@check
def parts_of_an_update(folder: Path) -> object:
    """Eight rows at once or in eight parts are the same update."""
    found = []
    for name, batch, accumulate in (("wide", 8, 1), ("deep", 1, 8)):
        _, events = run(plan(folder, name, batch=batch, accumulate=accumulate, steps=3, dropout=0.0))
        found.append([(one["loss"], one["gradient_norm"], one["weighted_tokens"]) for one in of(events, "step")])
    return found


@check
def uninterrupted(folder: Path) -> object:
    """Two runs that others are held against: one to be interrupted, one to be shared among processes."""
    return {"whole": run(plan(folder, "whole", **WHOLE))[1], "alone": run(plan(folder, "alone", steps=4, accumulate=4))[1]}


@check
def time_bound(folder: Path) -> object:
    """A run ends when its time is over, saved and evaluated, and goes on when it is given more."""
    _, events = run(plan(folder, "timed", epochs=0, steps=0, seconds=1.0))
    again = run(plan(folder, "timed", epochs=0, steps=0, seconds=1.0))[1]
    more = run(plan(folder, "timed", epochs=0, steps=0, seconds=events[-1]["seconds"] + 1))[1]
    rates = [one["learning_rate"] for one in of(events, "step")]
    return {
        "reason": events[-1]["reason"],
        "seconds": events[-1]["seconds"],
        "saved": of(events, "saved")[-1]["step"] == events[-1]["steps"],
        "final": (folder / "timed/final/adapter_model.safetensors").exists(),
        "last_rate": rates[-1] / max(rates),
        "again": [one["event"] for one in again],
        "resumed_at": more[0]["resumed_at"],
        "steps": events[-1]["steps"],
        "more": more[-1]["steps"],
    }


@contextlib.contextmanager
def limited(kind: int, most: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.safetensors"))}


@check
def disk_full(folder: Path) -> object:
    """A checkpoint that does not fit leaves the older one whole, from which the run goes on to the same result."""
    asked = plan(folder, "full-disk", evaluate_every=0)
    whole = plan(folder, "whole-disk", evaluate_every=0)
    run(whole)
    code, told = run(plan(folder, "full-disk", evaluate_every=0, seconds=0.0))  # the same course
    shutil.rmtree(folder / "full-disk/final")
    checkpoints = folder / "full-disk/checkpoints"
    (folder / "full-disk/result.json").unlink()
    shutil.rmtree(checkpoints / "step-00000008")  # as if it had ended after step 6
    before = contents(checkpoints)
    smallest = min(len(one) for one in before.values())
    with limited(resource.RLIMIT_FSIZE, smallest // 2):
        refused, events = run(asked)
    left = sorted(one.name for one in checkpoints.iterdir())
    unchanged = contents(checkpoints) == before
    run(asked)
    final = "final/adapter_model.safetensors"
    return {
        "code": refused,
        "event": events[-1],
        "left": left,
        "unchanged": unchanged,
        "first": code,
        "same": (folder / "full-disk" / final).read_bytes() == (folder / "whole-disk" / final).read_bytes(),
        "told": told[-1]["event"],
    }


@check
def broken_checkpoint(folder: Path) -> object:
    """A newest checkpoint that is cut off is passed over."""
    asked = plan(folder, "cut", evaluate_every=0)
    run(asked)
    final = (folder / "cut/final/adapter_model.safetensors").read_bytes()
    (folder / "cut/result.json").unlink()
    newest = max((folder / "cut/checkpoints").iterdir()) / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    _, events = run(asked)
    return {
        "resumed_at": events[0]["resumed_at"],
        "same": (folder / "cut/final/adapter_model.safetensors").read_bytes() == final,
    }


@check
def no_number(folder: Path) -> object:
    """A weight that is not finite, met by one conversation only: its step and row are named."""
    shutil.copytree(folder / "base", folder / "broken-base")
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    with torch.no_grad():
        model.get_input_embeddings().weight[VOCABULARY - 1] = float("nan")
    untied = {**model.state_dict()}
    untied["lm_head.weight"] = torch.randn(VOCABULARY, 64)
    model.config.tie_word_embeddings = False
    model.save_pretrained(folder / "broken-base", state_dict=untied)
    file = TokenFile.read(folder / "train.npz")
    tokens = file.tokens.copy()
    tokens[file.offsets[17]] = VOCABULARY - 1
    TokenFile(tokens, file.kinds, file.offsets, file.source, file.names).write(folder / "nan.npz")
    asked = plan(folder, "nan", packing=False, batch=1, accumulate=1, steps=0, epochs=1)
    changed = Plan(**{**vars(asked), "base": str(folder / "broken-base"), "train": str(folder / "nan.npz")})
    code, events = run(changed)
    return {"code": code, "event": events[-1], "steps": len(of(events, "step"))}


@check
def no_gradient(folder: Path) -> object:
    """Activations so large, and the weights after them so small, that the loss is a number and its gradient is none."""
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    layer = model.get_decoder().layers[0]
    with torch.no_grad():
        layer.input_layernorm.weight *= 1e30
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            projection.weight *= 1e-30
    model.save_pretrained(folder / "steep-base")
    asked = plan(folder, "steep", evaluate_every=0)
    code, events = run(Plan(**{**vars(asked), "base": str(folder / "steep-base")}))
    return {"code": code, "event": events[-1], "saved": len(of(events, "saved"))}


@check
def no_memory(folder: Path) -> object:
    """Memory that is not enough: what to try next."""
    asked = plan(folder, "memory", length=1_000_000, batch=4, accumulate=3, packing=False)
    TokenFile.of([(at, [1] * 400_000, [1] * 400_000) for at in range(4)], NAMES).write(folder / "long.npz")
    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    changed = Plan(**{**vars(asked), "train": str(folder / "long.npz")})
    with limited(resource.RLIMIT_AS, held + (300 << 20)):
        code, events = run(changed)
    return {"code": code, "event": events[-1]}


@check
def refused(folder: Path) -> object:
    """Everything that cannot be trained: exit code and last event."""
    names = (folder / "base", folder / "train.npz", folder / "dev.npz")
    TokenFile.of([(0, [1, 2, VOCABULARY], [0, 1, 1])], NAMES).write(folder / "other.npz")
    TokenFile.of([(0, [1, 2, 3], [0, 0, 0])], NAMES).write(folder / "mute.npz")
    TokenFile.of([(0, [1, 2], [0, 1])], ("context", "poem")).write(folder / "poem.npz")
    (folder / "cut.npz").write_bytes(names[1].read_bytes()[:-50])
    (folder / "no-model").mkdir()
    (folder / "no-weights").mkdir()
    shutil.copy(folder / "base/config.json", folder / "no-weights/config.json")
    shutil.copytree(folder / "base", folder / "cut-base")
    cut = folder / "cut-base/model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-99])
    run(plan(folder, "taken", steps=2, evaluate_every=0))
    told: dict[str, dict[str, Any]] = {
        "other tokenizer": {"train": "other.npz"},
        "other tokenizer in dev": {"dev": "other.npz"},
        "nothing to learn": {"train": "mute.npz"},
        "kind without a weight": {"train": "poem.npz"},
        "cut off": {"train": "cut.npz"},
        "no data": {"train": "missing.npz"},
        "no model": {"base": "no-model"},
        "no weights": {"base": "no-weights"},
        "cut weights": {"base": "cut-base"},
        "no folder": {"base": "nowhere"},
        "another run": {"out": "taken", "learning_rate": 0.1},
        "qlora without a GPU": {"method": "qlora"},
    }
    answer = {}
    for name, changes in told.items():
        placed = {key: str(folder / one) if key in ("base", "train", "dev", "out") else one for key, one in changes.items()}
        asked = {**vars(plan(folder, "refused", steps=2, evaluate_every=0)), **placed}
        code, events = run(Plan(**asked))
        answer[name] = {"code": code, "events": [one["event"] for one in events], **events[-1]}
    (folder / "unknown.json").write_text(json.dumps({**vars(plan(folder, "x")), "lenght": 3}))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main([str(folder / "unknown.json")])
    answer["unknown key"] = {"code": code, **json.loads(said.getvalue())}
    return answer


if __name__ == "__main__":
    place = Path(sys.argv[1])
    prepare(place)
    torch.set_num_threads(1)
    wanted = sys.argv[2:]
    print(json.dumps({one.__name__: one(place) for one in CHECKS if not wanted or one.__name__ in wanted}))
