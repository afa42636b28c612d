"""`milepost tools new`: a small tool that works as it is written, to be changed into one's own."""

from __future__ import annotations

import getpass
import keyword
import re
from enum import StrEnum
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.options import Json
from infra.cli.show import as_json, console, plain, print_json, use_json
from schemas.errors import MilepostError

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
TEMPLATE = ".in"
"""What templates end in that tools of ours would take for code of ours."""


class Lang(StrEnum):
    """What the tool is written in."""

    PYTHON = "python"
    NODE = "node"
    SHELL = "shell"


class Changes(StrEnum):
    """What the tool does to the world."""

    READ = "read"
    WRITE = "write"


class NotNew(MilepostError):
    """The tool cannot be written there, or cannot have this name."""


def new(
    name: Annotated[str, typer.Argument(help="The tool's name, such as word_count.", show_default=False)],
    lang: Annotated[Lang, typer.Option(help="What it is written in.")] = Lang.PYTHON,
    effect: Annotated[Changes, typer.Option(help="Whether it changes anything.")] = Changes.READ,
    into: Annotated[Path | None, typer.Option(help="The folder to make.", show_default="the name")] = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Write a working tool with its test, to start from."""
    use_json(json)
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise NotNew(f"{name!r} is no name for a tool.", why="it is a name in code as well", hint="such as word_count")
    folder = into or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NotNew(
            f"{folder} is there already.", why="nothing is written over", hint=f"--into another-folder, or rm -r {folder}"
        )
    written = write(folder, name, lang.value, effect.value)
    if as_json():
        print_json({"folder": str(folder), "files": sorted(written)})
        return
    console().print(plain(f"{folder}: {', '.join(sorted(written))}"))
    console().print(plain(f"next: cat {folder}/README.md", "dim"))


def write(folder: Path, name: str, lang: str, effect: str) -> list[str]:
    """Write the files of a template, and say which. Raises NotNew when they cannot be written."""
    place = resources.files("infra") / "scaffold" / lang
    words = {"__NAME__": name, "__OWNER__": getpass.getuser(), "__TRY__": _example(name, effect)}
    files = [*(place / "common").iterdir(), *(place / effect).iterdir()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(folder, each, words) for each in files if each.is_file()]
    except OSError as error:
        raise NotNew(f"{folder} cannot be written.", why=str(error)) from error


def _write(folder: Path, template: Traversable, words: dict[str, str]) -> str:
    name, text = template.name.removesuffix(TEMPLATE), template.read_text(encoding="utf-8")
    for word, meant in words.items():
        name, text = name.replace(word, meant), text.replace(word, meant)
    (folder / name).write_text(text, encoding="utf-8")
    if text.startswith("#!"):
        (folder / name).chmod(0o755)
    return name


def _example(name: str, effect: str) -> str:
    if effect == "read":
        return f'milepost tools call {name} \'{{"text": "one two three"}}\''
    return f'milepost ask "Write down: the till was opened" --tool {name}'
