"""Secrets by reference: `env:NAME` or `file:PATH`, read where a tool is called, and nowhere else.

What is stored, logged and shown is the reference. A file is read at each call, so a secret that is renewed counts at once.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tool_adapters.tool import InvalidTool, ToolRefused

LARGEST = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def checked_reference(text: str) -> str:
    """The reference, if it is one; it need not lead anywhere yet. Raises InvalidTool, which does not repeat the text."""
    kind, _, rest = text.partition(":")
    if (kind == "env" and _NAME.fullmatch(rest)) or (kind == "file" and rest):
        return text
    raise InvalidTool(
        "This is no reference to a secret.", why="a secret itself is never stored",
        hint="give env:NAME or file:PATH, which the tools process reads",
    )  # fmt: skip


def resolve(reference: str) -> str:
    """The secret. Raises ToolRefused, which says what has to be set and where."""
    kind, _, rest = checked_reference(reference).partition(":")
    if kind == "env":
        value = os.environ.get(rest, "")
        if not value:
            raise _missing(reference, f"the variable {rest} is not set", f"milepost down && {rest}=... milepost up -d")
        return value
    try:
        raw = Path(rest).expanduser().read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise _missing(reference, f"{rest} cannot be read: {why}", f"put the secret into {rest}") from error
    try:
        value = raw[:LARGEST].decode().strip()
    except UnicodeDecodeError as error:
        raise _missing(reference, f"{rest} is no UTF-8 text", f"put the secret into {rest} as text") from error
    if not value:
        raise _missing(reference, f"{rest} is empty", f"put the secret into {rest}")
    return value


def found(reference: str) -> str:
    """What a reference of a source's settings stands for; `text:` stands for itself. Raises what resolve raises."""
    kind, _, rest = reference.partition(":")
    return rest if kind == "text" else resolve(reference)


def _missing(reference: str, why: str, hint: str) -> ToolRefused:
    hint = f"{hint}, on the machine where the tools run"
    return ToolRefused(f"The secret {reference} is missing.", code="SecretMissing", why=why, hint=hint)
