"""The trainer as a child: begun, listened to, and stopped so that it saves what it has."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.training.run_folder import LOG, PLAN, TRAINER, BadRun
from schemas.canonical import JsonObject
from schemas.errors import MilepostError

STOPPED = (143, -signal.SIGTERM)  # as it says it, and where it had not begun to listen
_SAID = 12  # lines of its log that are looked at for a reason


class TrainingRefused(MilepostError):
    """The trainer cannot begin or go on; what, why and hint are its own."""


class TrainerDied(MilepostError):
    """The trainer ended without saying why."""

    def __init__(self, folder: Path, status: int, log: Sequence[str]) -> None:
        killed = f"it was killed by signal {-status}" + ("; perhaps memory ran out" if status == -signal.SIGKILL else "")
        why = killed if status < 0 else (log[-1].strip()[:300] if log else f"exit code {status}")
        super().__init__(
            "The trainer died.", why=why,
            hint=f"all it wrote is in {folder / LOG}; from the last checkpoint on: milepost train --out {folder} --resume",
        )  # fmt: skip
        self.status = status


def command(python: Path, devices: int) -> list[str]:
    """What runs the plan of the folder that it is begun in. devices: GPUs; several are driven by accelerate."""
    if devices > 1:
        launch = ["-m", "accelerate.commands.launch", "--num_processes", str(devices), "--num_machines", "1", "--module"]
        return [str(python), *launch, "services.training", PLAN]
    return [str(python), "-u", "-m", "services.training", PLAN]


class Training:
    """A trainer at work in a run's folder. Use as a context: whoever leaves it early kills what it began, and no other.

    Raises BadRun where another one is at work there, also one whose command was killed: the lock lies on the log, which a
    trainer holds open until it ends.
    """

    def __init__(self, python: Path, folder: Path, devices: int = 1) -> None:
        self._folder = folder
        self._stopped = 0.0
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        variables |= {"PYTHONPATH": TRAINER, "PYTHONDONTWRITEBYTECODE": "1"}
        self._log = (folder / LOG).open("ab")
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._log.close()
            hint = f"wait for it, or end it; then: milepost train --out {folder} --resume"
            raise BadRun(f"Another trainer is at work in {folder}.", why=f"it has {LOG} open", hint=hint) from error
        # A session of its own: an interrupt on the terminal reaches the trainer through `stop` alone.
        self._process = subprocess.Popen(
            command(python.absolute(), devices), cwd=folder, env=variables,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The trainer's process."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._signal(signal.SIGKILL)
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def events(self) -> Iterator[JsonObject]:
        """What it tells until it ends; may be begun again after an interrupt."""
        assert self._process.stdout is not None
        for line in iter(self._process.stdout.readline, b""):
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if isinstance(event, dict) and "event" in event:
                yield event
            else:
                self._log.write(line)
                self._log.flush()

    def stop(self) -> None:
        """Ask it to save and end."""
        self._stopped = time.monotonic()
        self._signal(signal.SIGTERM)

    @property
    def stopping_for(self) -> float:
        """Seconds since it was asked to stop; 0 if nobody did."""
        return time.monotonic() - self._stopped if self._stopped else 0.0

    def ended(self, last: JsonObject | None) -> str:
        """How it ended: done or stopped. last: the last thing it told. Raises TrainingRefused, TrainerDied."""
        status = self._process.wait()
        word = last.get("event") if last else None
        if word == "refused" and last:
            what, why, hint = (str(last.get(key) or "") for key in ("what", "why", "hint"))
            raise TrainingRefused(f"The trainer refused: {what}.", why=why, hint=hint)
        if word == "done" and status == 0:
            return "done"
        if word == "stopped" or (self._stopped and status in STOPPED):
            return "stopped"
        raise TrainerDied(self._folder, status, self._said())

    def _said(self) -> list[str]:
        """The last lines of its log; the last one names the error."""
        return [line for line in (self._folder / LOG).read_text(errors="replace").splitlines() if line.strip()][-_SAID:]

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it may just have ended
            os.killpg(self._process.pid, number)
