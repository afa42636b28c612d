"""Where torch is: an environment of the trainer's own, or a Python that a person names.

Its packages are pinned with their hashes in infra/locks/train.txt: a transformers that is newer than the exporter's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from infra import environments
from infra.environments import LOCKS, Environment, OnLine, silent
from schemas.errors import MilepostError

VARIABLE = "MILEPOST_TRAINING_PYTHON"
OTHERWISE = (
    f"name a Python that has torch, transformers, peft and accelerate: --python PATH or {VARIABLE}; "
    "or take the training to a machine that has them: --plan-only"
)
TORCH = Environment("the trainer", ".train-env", LOCKS / "train.txt", 8_000_000_000, "torch", OTHERWISE)
LOOK_S = 300  # a busy machine takes minutes to import torch
NEEDED = ("torch", "transformers", "peft", "accelerate", "safetensors", "numpy")


class NoTrainer(MilepostError):
    """The Python that is to train cannot."""


def python_for(named: Path | None, home: Path, *, on_line: OnLine = silent) -> Path:
    """The Python to train with: the one that was named, by a flag or the environment, else that of the trainer's environment.

    The latter is made first where it is missing (2 GB to fetch). Raises NoTrainer, EnvironmentFailed.
    """
    told = named or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if told is None:
        return environments.ensure(TORCH, home, on_line=on_line)
    found = shutil.which(str(told.expanduser()))
    if found is None:
        raise NoTrainer(f"{told} is no Python.", why="nothing that can be run is there", hint=f"--python PATH, or {VARIABLE}")
    return Path(found)


_LOOK = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
told = {}
for name in sys.argv[1:]:
    try:
        told[name] = version(name)
    except PackageNotFoundError:
        told[name] = ""
devices = 0
if told["torch"]:
    import torch
    devices = torch.cuda.device_count()
print(json.dumps({"versions": told, "devices": devices}))
"""


def look(python: Path) -> tuple[dict[str, str], int]:
    """The versions of what training needs, and how many GPUs torch sees. Raises NoTrainer."""
    try:
        ended = subprocess.run(
            [str(python), "-c", _LOOK, *NEEDED],
            capture_output=True,
            text=True,
            timeout=LOOK_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        told = json.loads(ended.stdout.strip().splitlines()[-1])
        versions, devices = dict(told["versions"]), int(told["devices"])
    except subprocess.TimeoutExpired as error:
        why = f"torch was not there after {LOOK_S} s; perhaps this machine is busy"
        raise NoTrainer(f"{python} does not answer.", why=why, hint="the same command again") from error
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise NoTrainer(f"{python} cannot train.", why=said[-1][:300] if said else "", hint=OTHERWISE) from error
    if missing := [name for name in NEEDED if not versions[name]]:
        hint = f"{python} -m pip install {' '.join(missing)}; without --python, milepost makes an environment of its own"
        raise NoTrainer(f"{python} cannot train.", why=f"it has no {', '.join(missing)}", hint=hint)
    return versions, devices


if __name__ == "__main__":
    environments.main(lambda home, *, on_line: python_for(None, home, on_line=on_line))
