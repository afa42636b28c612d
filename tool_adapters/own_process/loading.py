"""Which tools a folder of Python files has, or the packages that name some as entry points."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from schemas.errors import MilepostError
from tool_adapters import modelscope
from tool_adapters.tool import InvalidTool, Tool

GROUP = "milepost.tools"
PASSED_OVER = ("_", ".", "test_", "conftest")
"""How files begin that have no tools to offer."""


def files_of(folder: Path) -> list[Path]:
    """The Python files that are looked at, by name: those of the folder itself. Raises InvalidTool."""
    if not folder.is_dir():
        raise InvalidTool(f"{folder} is no folder.", hint="give the folder that has the Python files")
    return sorted(file for file in folder.glob("*.py") if not file.name.startswith(PASSED_OVER))


def of_folder(folder: Path) -> list[Tool]:
    """Every `@tool` function and Tool of a folder, in the order of its files. Raises InvalidTool."""
    sys.path.append(str(folder))  # behind ours: a file of theirs must not stand in for one of ours
    return _distinct(tool for file in files_of(folder) for tool in of_module(_module(file)))


def of_package(name: str) -> list[Tool]:
    """What a distribution offers as entry points of the group `milepost.tools`: tools, classes, modules, or functions that
    give a list of tools. Raises InvalidTool."""
    offered = [each for each in entry_points(group=GROUP) if each.dist is not None and each.dist.name == name]
    if not offered:
        known = sorted({each.dist.name for each in entry_points(group=GROUP) if each.dist is not None})
        raise InvalidTool(
            f"The package {name} offers no tools.", why=f'it has no entry points in the group "{GROUP}"',
            hint=f"installed packages that do: {', '.join(known)}" if known else "install it where Milepost runs",
        )  # fmt: skip
    return _distinct(tool for each in offered for tool in _of_entry(each))


def of_module(module: ModuleType) -> Iterator[Tool]:
    """The tools that a module defines; what it only imports is another's."""
    for value in list(vars(module).values()):
        if inspect.isclass(value):
            if value.__module__ == module.__name__ and issubclass(value, modelscope.Tool) and value.name:
                yield value()
        elif _is_tool(value) and _home(value) == module.__name__:
            yield value


def _of_entry(entry: EntryPoint) -> Iterable[Tool]:
    try:
        value = entry.load()
        if isinstance(value, ModuleType):
            return list(of_module(value))
        if _is_tool(value):
            return [value]
        made = value()
        return list(made) if isinstance(made, Iterable) else [made]
    except MilepostError:
        raise
    except Exception as error:
        raise InvalidTool(f"The entry point {entry.name} cannot be loaded.", why=_why(error)) from error


def _module(file: Path) -> ModuleType:
    if file.stem in sys.modules or file.stem in sys.stdlib_module_names:
        raise InvalidTool(f"{file.name} has the name of a module that is there already.", hint="give the file another name")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except MilepostError as error:
        why = f"{error.what} {error.why}".strip()
        raise InvalidTool(f"{file.name} has a tool that is none.", why=why, hint=error.hint) from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise InvalidTool(f"{file.name} cannot be loaded.", why=_why(error), hint=f"python {file}") from error
    return module


def _why(error: BaseException) -> str:
    """The error, and the last line of the code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"[:500]


def _is_tool(value: object) -> bool:
    return not inspect.isclass(value) and all(hasattr(value, name) for name in ("card", "plan", "call", "reconcile"))


def _home(tool: object) -> str:
    """The module that defines a tool: of a function behind it, or of its class."""
    return str(getattr(getattr(tool, "function", None), "__module__", None) or type(tool).__module__)


def _distinct(tools: Iterable[Tool]) -> list[Tool]:
    found: dict[str, Tool] = {}
    for tool in tools:
        if found.setdefault(tool.card.name, tool) is not tool:
            raise InvalidTool(f"Two tools are named {tool.card.name}.", why="a model could not tell them apart")
    return list(found.values())
