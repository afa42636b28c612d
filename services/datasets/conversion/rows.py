"""One row of a set as an example, or why it is none: whatever is wrong with a row ends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.checks import checked, fault
from services.datasets.conversion.files import FileUnreadable
from services.datasets.example import Example, Row, Skipped


class Unusable(Exception):
    """A row that is none of use; what it says is why."""


def row(name: str, make: Callable[[], Example], *, names_only: bool = False) -> Row:
    """What `make` makes of a row, checked. It may raise Unusable; a row of another form than its set's is skipped as well.

    names_only: the set tells which tools are called, and not with what; arguments that are missing are no fault.
    """
    try:
        made = make()
        if names_only and (why := fault(replace(made, tools=tuple(map(_asking_nothing, made.tools))))):
            return Skipped(name, why)
        return made if names_only else checked(made)
    except Unusable as why:
        return Skipped(name, str(why))
    except KeyError as missing:
        return Skipped(name, f"there is no {missing.args[0]}")
    except ValidationError as wrong:
        return Skipped(name, f"a value that no message or tool may have: {wrong.errors()[0]['msg']}")
    except (TypeError, ValueError, AttributeError, IndexError, OSError) as wrong:
        return Skipped(name, f"another form than its set's: {wrong}")


@contextmanager
def needed(path: Path) -> Iterator[None]:
    """What is read of a file that all rows need, such as a schema: what is wrong with it is told by its name.

    Raises FileUnreadable.
    """
    try:
        yield
    except KeyError as missing:
        raise FileUnreadable(path, f"there is no {missing.args[0]} in it") from missing
    except (Unusable, TypeError, ValueError, AttributeError, IndexError, SyntaxError, OSError) as wrong:
        raise FileUnreadable(path, f"it has another form than its set's: {wrong}") from wrong


def _asking_nothing(tool: ToolCard) -> ToolCard:
    return tool.model_copy(update={"parameters": {**tool.parameters, "required": []}})


def object_of(value: object, what: str) -> JsonObject:
    """The value if it is a JSON object. Raises Unusable, naming what it should have been."""
    if not isinstance(value, Mapping):
        raise Unusable(f"{what} is no object")
    return cast("JsonObject", value)


def list_of(value: object, what: str) -> list[JsonObject]:
    """The value if it is a list of JSON objects. Raises Unusable, naming what it should have been."""
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise Unusable(f"{what} is no list of objects")
    return cast("list[JsonObject]", value)
