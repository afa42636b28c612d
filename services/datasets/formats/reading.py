"""Training files read back: lines of the formats that `services.datasets.formats.writing` writes, from here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.messages import Message
from schemas.tools import ToolCard
from services.datasets.checks import checked
from services.datasets.conversion.files import FileUnreadable, csv_rows, json_lines, json_rows
from services.datasets.example import Example, Row, Skipped
from services.datasets.formats.msagent_lines import msagent_example
from services.datasets.formats.openai_lines import openai_example


def read(path: Path, form: str = "") -> Iterator[Row]:
    """The rows of a file of JSON lines, of a JSON list, or of CSV. form: its format, "" for what its first object has.

    A line that is none, or whose conversation is faulty, is skipped. Raises FileUnreadable, and MilepostError for a form that
    nobody knows.
    """
    if form and form not in READERS:
        raise MilepostError(f"There is no format {form!r}.", why=f"there are {', '.join(READERS)}", hint="leave it out")
    for where, line in _objects(path):
        if isinstance(line, Skipped):
            yield line
            continue
        form = form or form_of(line)
        if not form:
            raise FileUnreadable(path, f"its lines have {', '.join([*line][:6])}, which is no format of {', '.join(READERS)}")
        yield row(line, where, form)


def row(line: JsonObject, where: str, form: str) -> Row:
    """A line as an example, or why it is none. where: its id, if it has none of its own."""
    try:
        return checked(READERS[form](line, where), last=form == "milepost")  # its lines were checked before they were written
    except ValidationError as failure:
        first = failure.errors()[0]
        return Skipped(where, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except ValueError as failure:
        return Skipped(where, str(failure))


def milepost_example(line: JsonObject, where: str) -> Example:
    """The example that the line was written from. Raises ValueError."""
    tools, messages = line.get("tools"), line.get("messages")
    if not isinstance(tools, list) or not isinstance(messages, list):
        raise ValueError("no tools or no messages")
    runs, urls = line.get("runs", []), line.get("urls", {})
    if not isinstance(runs, list) or not isinstance(urls, Mapping):
        raise ValueError("runs or urls of another form")
    text = {key: line.get(key, "") for key in ("id", "system", "source", "group", "language")}
    if not all(isinstance(each, str) for each in [*text.values(), *runs, *urls.values()]):
        raise ValueError("a text that is none")
    said = cast("dict[str, str]", text)
    return Example(
        said["id"] or where, tuple(runs), said["system"],
        tuple(map(ToolCard.model_validate, tools)), tuple(map(Message.model_validate, messages)),
        said["source"], said["group"], said["language"], dict(urls),
    )  # fmt: skip


def _objects(path: Path) -> Iterator[tuple[str, JsonObject | Skipped]]:
    if path.suffix == ".csv":
        yield from ((f"{path.name}:{place}", row) for place, row in enumerate(csv_rows(path), 1))
        return
    try:
        with path.open("rb") as file:
            listed = file.read(64).lstrip()[:1] == b"["
    except OSError as failure:
        raise FileUnreadable(path, failure.strerror or str(failure)) from failure
    if not listed:
        yield from json_lines(path)
        return
    for place, each in enumerate(json_rows(path), 1):
        where = f"{path.name}:{place}"
        yield where, each if isinstance(each, dict) else Skipped(where, "not an object")


def form_of(line: JsonObject) -> str:
    """The format that an object seems to have; "" for none of READERS."""
    if "conversations" in line:
        return "msagent"
    if "messages" not in line:
        return ""
    return "milepost" if "system" in line and "source" in line else "openai"


READERS: dict[str, Callable[[JsonObject, str], Example]] = {
    "milepost": milepost_example, "msagent": msagent_example, "openai": openai_example,
}  # fmt: skip
"""Of each format, what makes an example of a line and its id; ValueError says why it is none."""
