"""What a function's docstring says about the function and about each of its parameters."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

_SECTION = re.compile(
    r"^(args|arguments|parameters|params|returns?|raises|yields|examples?|notes?):\s*$|^\S.*\n-{3,}$", re.IGNORECASE
)
_ARGUMENTS = re.compile(r"^(args|arguments|parameters|params):\s*$", re.IGNORECASE)
_GOOGLE = re.compile(r"^(\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_SPHINX = re.compile(r"^:param\s+(?:[\w\[\], |.]+\s+)?(\w+):\s*(.*)$")


@dataclass(frozen=True, slots=True)
class Docstring:
    """The text before the first section, and a description for each parameter that has one."""

    summary: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


def read_docstring(text: str | None) -> Docstring:
    """Read Google style (`Args:`) and Sphinx style (`:param x:`) docstrings; anything else is summary."""
    if not text:
        return Docstring()
    summary: list[str] = []
    parameters: dict[str, str] = {}
    section: str | None = ""
    current: str | None = None
    for line in inspect.cleandoc(text).splitlines():
        if _SECTION.match(line.strip()) and not line.startswith(" "):
            section, current = ("arguments" if _ARGUMENTS.match(line.strip()) else None), None
        elif sphinx := _SPHINX.match(line.strip()):
            section, current = "sphinx", sphinx[1]
            parameters[current] = sphinx[2].strip()
        elif line.strip().startswith(":"):
            section, current = None, None
        elif section == "":
            summary.append(line.strip())
        elif section == "arguments" and (entry := _GOOGLE.match(line.strip())) and _indent(line) <= 4:
            current = entry[1].lstrip("*")
            parameters[current] = entry[2].strip()
        elif current and line.strip():
            parameters[current] = f"{parameters[current]} {line.strip()}".strip()
    return Docstring(summary=" ".join(" ".join(summary).split()), parameters=parameters)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
