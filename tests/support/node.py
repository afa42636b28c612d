"""Node.js for tests: the packages of tests/node/package.json, installed once for all test processes.

They are other people's clients and servers, each pinned in package-lock.json.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

NODE = Path(__file__).parents[1] / "node"
LOCK = NODE.parents[1] / ".bench" / "node.lock"
INSTALL_S = 300


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder with the installed packages; a script that lies in its parent folder finds them.

    Without npm the test is skipped, except in CI, where that is a failure.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing("node and npm are not installed")
    LOCK.parent.mkdir(exist_ok=True)
    with FileLock(LOCK):
        if not _is_installed():
            _install(str(npm))
    return NODE / "node_modules"


@pytest.fixture(scope="session")
def node() -> str:
    """The command that runs JavaScript."""
    found = shutil.which("node")
    if found is None:
        missing("node is not installed")
    return str(found)


def missing(what: str) -> None:
    """Skip the test; fail it where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def bin_of(modules: Path, name: str) -> str:
    """A command that one of the packages brings."""
    return str(modules / ".bin" / name)


def _install(npm: str) -> None:
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"], cwd=NODE, capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    if done.returncode:
        missing(f"npm ci failed in {NODE}: {done.stderr[-1500:]}")
    _stamp().write_text(_wanted())


def _is_installed() -> bool:
    return _stamp().exists() and _stamp().read_text() == _wanted()


def _stamp() -> Path:
    return NODE / "node_modules" / ".installed"


def _wanted() -> str:
    return hashlib.sha256((NODE / "package-lock.json").read_bytes()).hexdigest()
