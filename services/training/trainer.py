"""A training run from its plan to its last weights.

An update depends on the plan, the weights before it and its number only (batches, learning rate and dropout are drawn
from the seed and that number), so a run that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import platform
import resource
import shutil
import signal
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator

from services.training import checkpoint, packing
from services.training.batch import arrays
from services.training.checkpoint import Progress
from services.training.data import Data
from services.training.dev import Scores, measure
from services.training.events import Events
from services.training.model import WeightedModel, causal_of, learning, load, precision, write
from services.training.plan import Plan
from services.training.refusal import Refused

CHECKPOINTS, BEST, FINAL, RESULT, SCORES = "checkpoints", "best", "final", "result.json", "evaluation.json"
FREE = (
    "out",
    "base",
    "train",
    "dev",
    "seconds",
    "patience",
    "save_every",
    "evaluate_every",
    "accumulate",
    "threads",
    "checkpointing",
)
"""Of a plan: what may change when a run goes on, or is part of its course in another way (the data, not where they lie)."""


class Trainer:
    """One run. Raises Refused for what cannot be trained; torch's own errors where there is not enough memory."""

    def __init__(self, plan: Plan, accelerator: Accelerator, events: Events) -> None:
        self.plan, self.accelerator, self.events = plan, accelerator, events
        self.out = Path(plan.out)
        self.device: torch.device = accelerator.device
        self.ranks: int = accelerator.num_processes
        self.together = plan.accumulate * self.ranks
        self.stopped = False
        self.best: Scores | None = None

    def run(self) -> str:
        """Trains, or goes on. The reason why it ended: steps, patience, seconds, or stopped by a signal."""
        plan = self.plan
        self.data = Data.read(Path(plan.train), plan)
        self.dev = Data.read(Path(plan.dev), plan) if plan.dev else None
        self.progress = Progress(course=self._course())
        found = self._found()
        if found is not None and (ended := self._ended_before()):
            return ended
        signal.signal(signal.SIGTERM, self._stop)
        self.total = self._updates()
        highest = max([data.highest for data in (self.data, self.dev) if data is not None])
        self.model = load(plan, self.device, highest + 1)
        self.weighted = self.accelerator.prepare(WeightedModel(causal_of(self.model)))
        self.learning = learning(self.model)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=plan.learning_rate, weight_decay=plan.decay, fused=True)
        if found is not None:
            self.progress = found[1]
            checkpoint.restore(found[0], self.learning, self.optimizer)
        self._begin()
        reason = self._updates_until()
        if reason != "stopped":
            self._finish(reason)
        return reason

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True

    def _found(self) -> tuple[Path, Progress] | None:
        if self.accelerator.is_main_process:
            self.out.mkdir(parents=True, exist_ok=True)
        self.accelerator.wait_for_everyone()
        self.events.file = self.out / "metrics.jsonl"
        found = checkpoint.newest(self.out / CHECKPOINTS)
        if found is not None and found[1].course != self.progress.course:
            raise Refused(
                f"{self.out} holds another run",
                why="its checkpoints were made by another plan, other data or another base",
                hint="give the plan another `out`, or remove that folder",
            )
        return found

    def _ended_before(self) -> str:
        """Why this very run is over already, or nothing."""
        if not (self.out / RESULT).exists() or not (self.out / FINAL).exists():
            return ""
        result = json.loads((self.out / RESULT).read_text("utf-8"))
        if result["reason"] == "seconds" and not 0 < self.plan.seconds <= result["plan"]["seconds"]:
            return ""
        self.events.tell("done", **result)
        return str(result["reason"])

    def _course(self) -> str:
        """What the weights after an update depend on."""
        plan, base = self.plan, Path(self.plan.base)
        fixed = {name: one for name, one in asdict(plan).items() if name not in FREE}
        weights = sorted((file.name, file.stat().st_size) for file in base.glob("*.safetensors"))
        said = json.dumps([fixed, self.together, self.data.digest, weights], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def _updates(self) -> int:
        """How many there will be; 0 where only time bounds them."""
        plan = self.plan
        batches = len(packing.batches_of(self.data.lengths, plan.length, plan.batch, packing=plan.packing, seed=(plan.seed, 0)))
        bounds = [plan.steps] if plan.steps else []
        if plan.epochs:
            bounds.append(max(1, round(plan.epochs * batches / self.together)))
        return min(bounds, default=0)

    def _groups(self) -> list[dict[str, object]]:
        """Decay is for matrices: norms and biases have none."""
        matrices = [one for one in self.learning.values() if one.ndim > 1]
        others = [one for one in self.learning.values() if one.ndim <= 1]
        groups: list[dict[str, object]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]

    def _begin(self) -> None:
        plan = self.plan
        self.events.tell(
            "begun",
            method=plan.method,
            base=plan.base,
            device=str(self.device),
            devices=self.ranks,
            threads=torch.get_num_threads(),
            precision=str(precision(plan, self.device)).removeprefix("torch."),
            seed=plan.seed,
            parameters=sum(one.numel() for one in self.model.parameters()),
            trainable=sum(one.numel() for one in self.learning.values()),
            conversations=len(self.data.lengths),
            tokens=int(self.data.lengths.sum()),
            weighted_tokens=self.data.weighted_tokens,
            too_long=self.data.too_long,
            unweighted=self.data.unweighted,
            updates=self.total or None,
            resumed_at=self.progress.step,
        )

    def _updates_until(self) -> str:
        """Updates until one of the bounds is met: its name."""
        plan, progress = self.plan, self.progress
        self.began = time.monotonic() - progress.seconds
        stream = packing.updates(
            self.data.lengths,
            plan.length,
            plan.batch,
            packing=plan.packing,
            seed=plan.seed,
            of=self.together,
            start=progress.step,
        )
        evaluating = 0.0
        for epoch, batches in stream:
            if self.total and progress.step >= self.total:
                return "steps"
            if plan.seconds and progress.seconds + evaluating >= plan.seconds:
                return "seconds"
            self._update(epoch, batches)
            last = bool(self.total and progress.step >= self.total)
            if self.dev is not None and plan.evaluate_every and progress.step % plan.evaluate_every == 0 and not last:
                evaluating = self._evaluate()
            if self.stopped or (plan.save_every and progress.step % plan.save_every == 0):
                self._save()
            if self.stopped:
                self.events.tell("stopped", step=progress.step, of=self.total or None, why="a signal (SIGTERM)")
                return "stopped"
            if plan.patience and progress.worse >= plan.patience:
                return "patience"
        raise AssertionError("the stream of updates has no end")

    def _update(self, epoch: int, batches: list[packing.Batch]) -> None:
        """One update over `together` batches, of which every `ranks`-th is this process's."""
        plan, progress, begun = self.plan, self.progress, time.monotonic()
        rank: int = self.accelerator.process_index
        used = [one for batch in batches for row in batch for one in row]
        whole = float(self.data.conversation_weights[used].sum())
        rate = learning_rate(plan, progress.step, self.total, progress.seconds)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"{plan.seed} {progress.step} {rank}".encode()).digest()[:7]))
        losses = self._gradients(batches[rank :: self.ranks], whole)
        all_losses = self._agreed(losses, batches)
        norm = float(torch.nn.utils.clip_grad_norm_(self.learning.values(), plan.clip or math.inf))
        if not math.isfinite(norm):
            self._refuse_numbers("gradient", batches)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = int(self.data.lengths[used].sum())
        progress.step += 1
        progress.tokens += tokens
        progress.weighted_tokens += int(self.data.conversation_counts[used].sum())
        took = time.monotonic() - begun
        self.events.tell(
            "step",
            step=progress.step,
            of=self.total or None,
            epoch=epoch,
            loss=sum(all_losses),
            learning_rate=rate,
            gradient_norm=norm,
            tokens=progress.tokens,
            weighted_tokens=progress.weighted_tokens,
            tokens_per_second=round(tokens / took, 1),
            memory_mib=memory_mib(self.device),
            seconds=round(progress.seconds, 2),
            eta=self._eta(),
        )

    def _gradients(self, batches: list[packing.Batch], whole: float) -> torch.Tensor:
        """Adds the gradients of the update's loss, which is normalised by all its weights; each batch's part of the loss."""
        losses = []
        self.weighted.train()
        for number, batch in enumerate(batches, 1):
            made = arrays(self.data.file, self.data.weights, batch, packed=self.plan.packing)
            alone = contextlib.nullcontext() if number == len(batches) else self.accelerator.no_sync(self.weighted)
            with alone:
                each, _ = self.weighted(made)
                loss = (each * torch.from_numpy(made.weights).to(self.device)).sum() / whole
                self.accelerator.backward(loss * self.ranks)  # gradients are averaged over processes
            losses.append(loss.detach())
        return torch.stack(losses)

    def _agreed(self, losses: torch.Tensor, batches: list[packing.Batch]) -> list[float]:
        """The losses of all processes' batches; clock and signal are the same for all after it. Raises Refused for NaN."""
        mine = [float(self.stopped), time.monotonic() - self.began if self.accelerator.is_main_process else 0.0]
        told = torch.cat([losses.double().cpu(), torch.tensor(mine, dtype=torch.float64)]).to(self.device)
        table = self.accelerator.gather(told).view(self.ranks, -1).cpu()
        self.stopped = bool(table[:, -2].any())
        self.progress.seconds = float(table[:, -1].sum())
        ordered: list[float] = table[:, :-2].t().flatten().tolist()
        wrong = [batch for batch, loss in zip(batches, ordered, strict=True) if not math.isfinite(loss)]
        if wrong:
            self._refuse_numbers("loss", wrong)
        return ordered

    def _refuse_numbers(self, what: str, batches: list[packing.Batch]) -> None:
        rows = sorted(int(self.data.file.source[one]) for batch in batches for row in batch for one in row)
        named = ", ".join(str(row) for row in rows[:20]) + (f" and {len(rows) - 20} more" if len(rows) > 20 else "")
        raise Refused(
            f"the {what} of step {self.progress.step + 1} is no number",
            why=f"it is NaN or infinite over rows {named} of the data set",
            hint="look at those rows; then try a smaller learning_rate, or precision fp32. The last checkpoint is whole",
        )

    def _eta(self) -> float | None:
        progress, plan = self.progress, self.plan
        left = [(self.total - progress.step) * progress.seconds / progress.step] if self.total else []
        if plan.seconds:
            left.append(max(0.0, plan.seconds - progress.seconds))
        return round(min(left), 1) if left else None

    def _evaluate(self) -> float:
        """Measures on the dev data, keeps the weights if they are the best so far; how long it took."""
        assert self.dev is not None
        begun, progress = time.monotonic(), self.progress
        scores = measure(self.weighted, self.dev, self.plan, self.accelerator)
        better = progress.best_loss is None or scores.loss < progress.best_loss
        progress.worse = 0 if better else progress.worse + 1
        if better:
            progress.best_loss, progress.best_step, self.best = scores.loss, progress.step, scores
            self._write(self.out / BEST, scores)
        took = time.monotonic() - begun
        self.events.tell("evaluated", step=progress.step, best=better, **asdict(scores), took=round(took, 2))
        return took

    def _write(self, folder: Path, scores: Scores | None) -> None:
        def fill(scratch: Path) -> None:
            write(self.model, self.plan, scratch)
            held = {"step": self.progress.step, **(asdict(scores) if scores else {})}
            (scratch / SCORES).write_text(json.dumps(held, indent=1) + "\n", "utf-8")

        if self.accelerator.is_main_process:
            checkpoint.whole(folder, fill)

    def _save(self) -> None:
        begun = time.monotonic()
        if self.accelerator.is_main_process:
            now = replace(self.progress, seconds=begun - self.began)
            at = checkpoint.save(self.out / CHECKPOINTS, now, self.learning, self.optimizer)
            self.events.tell("saved", step=self.progress.step, path=str(at), took=round(time.monotonic() - begun, 2))
        self.accelerator.wait_for_everyone()

    def _copy_best(self, scratch: Path) -> None:
        shutil.copytree(self.out / BEST, scratch)

    def _finish(self, reason: str) -> None:
        """The last evaluation and checkpoint; final is the best of all evaluated weights, or the last without dev data."""
        if self.dev is not None and reason != "patience":
            self._evaluate()
        self._save()
        if self.dev is None:
            self._write(self.out / FINAL, None)
        elif self.accelerator.is_main_process:
            checkpoint.whole(self.out / FINAL, self._copy_best)
        if not self.accelerator.is_main_process:
            return
        progress = self.progress
        progress.seconds = time.monotonic() - self.began
        held = json.loads((self.out / FINAL / SCORES).read_text("utf-8"))
        result = {
            "reason": reason,
            "steps": progress.step,
            "best_step": held["step"],
            "tokens": progress.tokens,
            "weighted_tokens": progress.weighted_tokens,
            "dev": held,
            "seconds": round(progress.seconds, 2),
            "tokens_per_second": round(progress.tokens / max(progress.seconds, 1e-9), 1),
            "memory_mib": memory_mib(self.device),
            "device": device_name(self.device),
            "devices": self.ranks,
            "seed": self.plan.seed,
            "versions": versions(),
            "final": str(self.out / FINAL),
            "plan": asdict(self.plan),
        }
        scratch = self.out / (RESULT + ".part")
        scratch.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
        scratch.replace(self.out / RESULT)
        self.events.tell("done", **result)


def learning_rate(plan: Plan, step: int, total: int, seconds: float) -> float:
    """Of the update after `step`: up in a line, down in a cosine, by updates or by time, whichever is farther."""
    done = max((step + 1) / (total + 1) if total else 0.0, min(1.0, seconds / plan.seconds) if plan.seconds else 0.0)
    if done < plan.warmup:
        return plan.learning_rate * done / plan.warmup
    return (
        plan.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - plan.warmup) / (1 - plan.warmup)))
        if plan.warmup < 1
        else 0.0
    )


def memory_mib(device: torch.device) -> int:
    """The most that was held so far, in MiB: of the GPU's memory, or of the process's."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) >> 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's and how many threads are used."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """Of what the result depends on."""
    return {"python": platform.python_version()} | {
        name: version(name) for name in ("torch", "transformers", "peft", "accelerate", "safetensors", "numpy")
    }
