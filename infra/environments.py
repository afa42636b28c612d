"""Environments of their own: what shares no packages with Milepost is installed beside the models, once, from a hashed lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from schemas.errors import MilepostError

LOCKS = Path(__file__).parent / "locks"
STAMP = "installed"

OnLine: TypeAlias = Callable[[str], None]


def silent(_: str) -> None:
    """Progress for nobody."""


class EnvironmentFailed(MilepostError):
    """An environment could not be made."""

    def __init__(self, environment: Environment, folder: Path, why: str, hint: str) -> None:
        otherwise = f"; or {environment.otherwise}" if environment.otherwise else ""
        super().__init__(
            f"The environment of {environment.of} could not be made in {folder}.", why=why, hint=hint + otherwise
        )  # fmt: skip
        self.folder = folder


@dataclass(frozen=True)
class Environment:
    """Packages that are installed by themselves. of: whose they are, for people; folder: its name in the models' home.

    room: bytes that it needs while it is made; package: one of them, to try the registry with; otherwise: what else can be
    done where it cannot be made.
    """

    of: str
    folder: str
    lock: Path
    room: int
    package: str
    otherwise: str = ""


def ensure(environment: Environment, home: Path, *, on_line: OnLine = silent) -> Path:
    """The Python of an environment, made first where it is missing or of another lock.

    on_line: hears each line that pip writes. Two processes may ask at once: one installs, the other waits.
    Raises EnvironmentFailed.
    """
    from filelock import FileLock

    folder = home.resolve() / environment.folder
    python, stamp = folder / "bin" / "python", folder / STAMP
    wanted = _stamp(environment)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / f"{environment.folder}.lock"):
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(environment, folder, python, on_line)
            stamp.write_text(wanted)
    return python


def is_there(environment: Environment, home: Path) -> bool:
    """Whether an environment is made already."""
    stamp = home.resolve() / environment.folder / STAMP
    return stamp.exists() and stamp.read_text() == _stamp(environment)


def _stamp(environment: Environment) -> str:
    return hashlib.sha256(environment.lock.read_bytes() + sys.version.encode()).hexdigest()


def _install(environment: Environment, folder: Path, python: Path, on_line: OnLine) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < environment.room:
        why = f"it needs {environment.room / 1e9:.0f} GB while it is made, {free / 1e9:.1f} GB are free there"
        hint = "free some room, or name a models' home on a larger disk (MILEPOST_MODEL_HOME)"
        raise EnvironmentFailed(environment, folder, why, hint)
    on_line(f"making an environment for {environment.of} in {folder}: 2 GB to fetch, once")
    with tempfile.TemporaryDirectory(prefix=f"{environment.folder}-", dir=folder.parent) as scratch:
        status, lines = run([sys.executable, "-m", "venv", str(folder)], on_line, {"TMPDIR": scratch})
        if status:
            hint = "install Python's venv (on Debian: apt install python3-venv), then try again"
            raise EnvironmentFailed(environment, folder, _complaint(lines), hint)
        command = [
            str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-cache-dir",
            "--progress-bar=off", "--only-binary=:all:", "--no-deps", "--require-hashes", "-r", str(environment.lock),
        ]  # fmt: skip
        status, lines = run(command, on_line, {"TMPDIR": scratch})
    if status:
        hint = f"see that pip reaches the Python registry (pip download --no-deps {environment.package}), then try again"
        raise EnvironmentFailed(environment, folder, _complaint(lines), hint)


def _complaint(lines: Sequence[str]) -> str:
    """What a program said was wrong: its lines that begin with ERROR, else its last one."""
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
    return " ".join(line.removeprefix("ERROR:").strip() for line in errors)[:500]


def run(command: Sequence[str], on_line: OnLine, variables: Mapping[str, str]) -> tuple[int, list[str]]:
    """Run a program to its end, each line it writes passed on: (its status, its last lines). An interrupt kills it.

    variables: of its environment, beside those of this process.
    """
    lines: deque[str] = deque(maxlen=50)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env={**os.environ, **variables},
    )  # fmt: skip
    with process:
        try:
            for line in map(str.strip, process.stdout or ()):
                if line:
                    lines.append(line)
                    on_line(line)
        except BaseException:
            process.kill()
            raise
    return process.returncode, list(lines)


def main(make: Callable[..., Path]) -> None:
    """Make an environment from a Makefile, its lines on the terminal."""
    from infra.settings import load

    try:
        print(make(load({}).settings.model.home, on_line=print))
    except MilepostError as error:
        sys.exit(str(error))
