"""Checkpoints: whole or not there. A folder per save, without pickles: what learns, the optimizer, and how far it got."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from services.training.refusal import Refused

KEPT = 2
STATE, WEIGHTS, OPTIMIZER = "state.json", "weights.safetensors", "optimizer.safetensors"


@dataclass
class Progress:
    """How far a run is. course: what must not change for it to go on; step: updates done; worse: evaluations since the best."""

    course: str
    step: int = 0
    tokens: int = 0
    weighted_tokens: int = 0
    seconds: float = 0.0
    best_step: int = -1
    best_loss: float | None = None
    worse: int = 0


def whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fills a folder beside `folder` and puts it there when all of it is on the disk. Raises Refused where the disk is full."""
    scratch = folder.with_name(folder.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        fill(scratch)
        for file in scratch.iterdir():
            _sync(file)
        _sync(scratch)
        old = folder.with_name(folder.name + ".old.part")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        scratch.rename(folder)
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise Refused(
            f"{folder.name} could not be saved",
            why=str(error),
            hint="make room on the disk and run the same plan again: it goes on from the last whole checkpoint",
        ) from error


def save(folder: Path, progress: Progress, learning: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> Path:
    """Keeps this one and the one before. Raises Refused where the disk is full; the older ones stay."""

    def fill(scratch: Path) -> None:
        scratch.mkdir()
        save_file({name: one.detach().cpu().contiguous() for name, one in learning.items()}, scratch / WEIGHTS)
        save_file(_flat(learning, optimizer), scratch / OPTIMIZER)
        sizes = {name: (scratch / name).stat().st_size for name in (WEIGHTS, OPTIMIZER)}
        (scratch / STATE).write_text(json.dumps({"progress": asdict(progress), "sizes": sizes}, indent=1) + "\n", "utf-8")

    at = folder / f"step-{progress.step:08d}"
    whole(at, fill)
    for old in _all(folder)[:-KEPT]:
        shutil.rmtree(old)
    return at


def newest(folder: Path) -> tuple[Path, Progress] | None:
    """The newest checkpoint that is whole."""
    for at in reversed(_all(folder)):
        try:
            held = json.loads((at / STATE).read_text("utf-8"))
            if all((at / name).stat().st_size == size for name, size in held["sizes"].items()):
                return at, Progress(**held["progress"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def restore(at: Path, learning: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Puts weights and optimizer back as they were."""
    restore_weights(at, learning)
    held = load_file(at / OPTIMIZER)
    states: dict[int, dict[str, torch.Tensor]] = {}
    for index, name in enumerate(_ordered(learning, optimizer)):
        states[index] = {
            key.removeprefix(name + "."): one for key, one in held.items() if key.rpartition(".")[0] == name
        }  # fmt: skip
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def restore_weights(at: Path, learning: dict[str, torch.nn.Parameter]) -> None:
    """Only what learns."""
    held = load_file(at / WEIGHTS)
    with torch.no_grad():
        for name, one in learning.items():
            one.copy_(held[name])


def _all(folder: Path) -> list[Path]:
    return sorted(one for one in folder.glob("step-*") if not one.name.endswith(".part"))


def _ordered(learning: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> list[str]:
    names = {id(one): name for name, one in learning.items()}
    return [names[id(one)] for group in optimizer.param_groups for one in group["params"]]


def _flat(learning: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    states = optimizer.state_dict()["state"]
    return {
        f"{name}.{key}": one.detach().cpu().contiguous()
        for index, name in enumerate(_ordered(learning, optimizer))
        for key, one in states.get(index, {}).items()
    }


def _sync(path: Path) -> None:
    held = os.open(path, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)
