"""Where the peers live: their own environment, and a server from npm. Nothing of them touches ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PLACE = ROOT / ".bench"
RESTATE_SERVER = "@restatedev/restate-server@1.7.12"
INSTALL_S = 600.0


class Missing(Exception):
    """A peer cannot run here; the text says why."""


async def output(*command: str | Path, seconds: float = 180.0, folder: Path = ROOT) -> str:
    """What a program prints. Raises Missing with the end of what it complains about."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(seconds):
            said, complained = await process.communicate()
    except TimeoutError as error:
        process.kill()
        raise Missing(f"{Path(command[0]).name} did not end within {seconds:.0f} s") from error
    if process.returncode:
        last = (complained or said).decode(errors="replace").strip().splitlines()[-1:]
        raise Missing(f"{Path(command[0]).name} ended with {process.returncode}: {' '.join(last)[:300]}")
    return said.decode()


async def python_with(requirements: str) -> Path:
    """The Python of the peers' environment, with these requirements installed in it."""
    python, wanted = PLACE / "peers" / "bin" / "python", HERE / requirements
    if not python.exists():
        await output(sys.executable, "-m", "venv", PLACE / "peers")
    installed = PLACE / requirements
    if not installed.exists() or installed.read_text() != wanted.read_text():
        await output(python, "-m", "pip", "install", "--quiet", "--requirement", wanted, seconds=INSTALL_S)
        installed.write_text(wanted.read_text())
    return python


async def restate_server() -> Path:
    """The program of restate-server, installed from npm."""
    npm, folder = shutil.which("npm"), PLACE / "restate"
    if npm is None:
        raise Missing("there is no npm")
    pattern = "node_modules/@restatedev/restate-server-*/bin/restate-server"
    if not any(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        await output(npm, "install", "--silent", "--no-fund", "--no-audit", RESTATE_SERVER, folder=folder, seconds=INSTALL_S)
    found = next(folder.glob(pattern), None)
    if found is None:
        raise Missing(f"{RESTATE_SERVER} has no program for this machine")
    return found


@contextlib.asynccontextmanager
async def running(
    *command: str | Path, log: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that runs while the context is open; it is asked to end, and killed after five seconds."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=file, stderr=file, env={**os.environ, **(env or {})}
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 5)
        if process.returncode is None:
            process.kill()
            await process.wait()


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
