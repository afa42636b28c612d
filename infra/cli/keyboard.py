"""Asking the person at the terminal while the run goes on."""

from __future__ import annotations

import asyncio
import sys
import termios
from collections.abc import Sequence

YES = frozenset({"y", "yes", "是", "好"})
NO = frozenset({"", "n", "no", "否", "不"})


async def yes_or_no(question: str) -> bool | None:
    """The person's answer; Enter alone is no, the end of the input (ctrl-D) is None."""
    forget_typed()
    while True:
        sys.stdout.write(f"{question} [y/N] ")
        sys.stdout.flush()
        line = await read_line()
        if line is None:
            sys.stdout.write("\n")
            return None
        answer = line.strip().lower()
        if answer in YES | NO:
            return answer in YES


async def choose(question: str, keys: Sequence[str], capital: str) -> str | None:
    """The key that is pressed, empty for Enter alone; the end of the input (ctrl-D) is None.

    capital: the key that Enter alone comes to, shown so. Yes and no may be said in Chinese too.
    """
    forget_typed()
    shown = "/".join(key.upper() if key == capital else key for key in keys)
    while True:
        line = await ask_line(f"{question} [{shown}] ")
        if line is None:
            return None
        answer = line.strip().lower()
        answer = "y" if answer in YES else "n" if answer in NO - {""} else answer
        if answer in ("", *keys):
            return answer


async def ask_line(prompt: str) -> str | None:
    """What is typed after a prompt, without its line end; None when no more comes."""
    sys.stdout.write(prompt)
    sys.stdout.flush()
    line = await read_line()
    if line is None:
        sys.stdout.write("\n")
        return None
    return line.rstrip("\r\n")


async def read_line() -> str | None:
    """The next line that is typed; None when no more comes. Nothing else has to wait for it."""
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline() or None


def forget_typed() -> None:
    """Drop what was typed before the question stood there: nobody approves what they have not seen."""
    try:
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    except termios.error:
        return  # no terminal: nothing is typed ahead
