"""`python -m services.training PLAN.json`: trains as the plan says, and goes on where it was interrupted.

stdout: JSON lines, the last of them done, stopped or refused. Exit codes: 0 done, 3 refused, 143 stopped by SIGTERM (saved).
Several GPUs: `accelerate launch --num_processes N -m services.training PLAN.json`; several processes on CPUs, which accelerate
starts by MPI only: `python -m torch.distributed.run --nproc_per_node N -m services.training PLAN.json`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.training.events import Events
    from services.training.plan import Plan

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all a run needs is in its plan's folders
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

REFUSED, STOPPED = 3, 143


def main(arguments: list[str]) -> int:
    """The exit code."""
    from services.training.events import Events
    from services.training.plan import Plan
    from services.training.refusal import Refused

    events = Events(speaks=os.environ.get("RANK", "0") == "0")
    if len(arguments) != 1:
        events.tell("refused", what="one plan is needed", why="", hint="python -m services.training PLAN.json")
        return REFUSED
    try:
        plan = Plan.read(Path(arguments[0]))
    except (OSError, ValueError, TypeError) as error:
        events.tell(
            "refused", what=f"{arguments[0]} is no plan", why=str(error), hint="see services/training/plan.py for its keys"
        )
        return REFUSED
    try:
        return train(plan, events)
    except Refused as refused:
        events.tell("refused", what=refused.what, why=refused.why, hint=refused.hint)
        return REFUSED


def train(plan: Plan, events: Events) -> int:
    """Raises Refused, also for memory that was not enough."""
    import torch
    from accelerate import Accelerator

    from services.training.model import precision
    from services.training.refusal import Refused
    from services.training.trainer import Trainer

    if plan.threads:
        torch.set_num_threads(plan.threads)
    gpu = torch.cuda.is_available()
    computed = precision(plan, torch.device("cuda" if gpu else "cpu"))
    accelerator = Accelerator(mixed_precision="bf16" if computed == torch.bfloat16 else "no", cpu=not gpu)
    if accelerator.num_processes != int(os.environ.get("WORLD_SIZE", "1")):
        raise Refused(
            "the processes do not know of each other",
            why=f"{os.environ['WORLD_SIZE']} were started, and accelerate sees {accelerator.num_processes}",
            hint="start them with `accelerate launch -m` on GPUs, `python -m torch.distributed.run -m` on CPUs",
        )
    try:
        reason = Trainer(plan, accelerator, events).run()
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise Refused("out of memory", why=str(error).splitlines()[0][:300], hint=smaller(plan)) from error
    return STOPPED if reason == "stopped" else 0


def out_of_memory(error: BaseException) -> bool:
    """torch says it as its own error on a GPU, and in words on a CPU."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def smaller(plan: Plan) -> str:
    """The next thing to try, that learns the same."""
    if plan.batch > 1:
        batch = plan.batch // 2
        return f'set "batch": {batch} and "accumulate": {plan.accumulate * plan.batch // batch} in the plan'
    if not plan.checkpointing:
        return 'set "checkpointing": true in the plan (batch is 1 already)'
    return f'set "length": {plan.length // 2} in the plan (longer conversations are left out), or "method": "lora" or "qlora"'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
