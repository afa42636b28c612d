"""A program at a terminal: what it shows can be waited for, and a person can type."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")


class Terminal:
    """A program on a pseudo terminal of 100 columns. Use as a context: the program is gone afterwards."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> None:
        self._master, slave = pty.openpty()
        size = {"COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            list(command), stdin=slave, stdout=slave, stderr=slave, cwd=folder, env={**environment, **size},
            start_new_session=True, preexec_fn=lambda: _own_terminal(slave),  # noqa: PLW1509  # no threads here
        )  # fmt: skip
        os.close(slave)
        self._shown = b""
        self._seen = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """All that was shown so far, without colours and movements."""
        return _CONTROL.sub("", self._shown.decode(errors="replace"))

    def wait_for(self, text: str, limit_s: float = 30.0) -> str:
        """Wait until the text is shown after what was waited for before; gives what was shown from there to it."""
        deadline = time.monotonic() + limit_s
        while (at := self.text.find(text, self._seen)) < 0:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} was not shown:\n{self.text[self._seen :]}")
        begun, self._seen = self._seen, at + len(text)
        return self.text[begun : self._seen]

    def press_until(self, key: str, text: str, limit_s: float = 30.0) -> None:
        """Press a key until its effect is shown: readline misses a ctrl-C in the instant in which it shows its prompt."""
        deadline = time.monotonic() + limit_s
        while self.text.find(text, self._seen) < 0:
            self.type(key)
            if not self._read(min(deadline, time.monotonic() + 1.0)) and time.monotonic() > deadline:
                raise AssertionError(f"{text!r} was not shown:\n{self.text[self._seen :]}")
        self.wait_for(text)

    def type(self, text: str) -> None:
        """Press keys; \\x03 is ctrl-C, \\x04 is ctrl-D."""
        os.write(self._master, text.encode())

    def end(self, limit_s: float = 30.0) -> tuple[int, str]:
        """Wait for its end: exit code, and what was shown after what was waited for before."""
        deadline = time.monotonic() + limit_s
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic())), self.text[self._seen :]

    def widths(self) -> set[int]:
        """The widths of the lines shown, in columns."""
        return {cell_len(line) for line in self.text.splitlines()}

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        with contextlib.suppress(OSError):  # Linux: EIO when the other side has closed
            piece = os.read(self._master, 65536)
            self._shown += piece
            return bool(piece)
        return False


def _own_terminal(slave: int) -> None:
    """Make the pseudo terminal the controlling one, so that ctrl-C is a signal."""
    import fcntl
    import termios

    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
