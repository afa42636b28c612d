"""What examples say, in a form that a test can write down."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import data_set


def rows(name: str, folder: Path, part: str, most: int | None = None) -> list[Row]:
    """The rows of a part, at most so many."""
    return [*islice(data_set(name).read(folder, part), most)]


def examples(found: Iterable[Row]) -> list[Example]:
    """Those that are of use."""
    return [row for row in found if isinstance(row, Example)]


def skipped(found: Iterable[Row]) -> list[tuple[str, str]]:
    """Those that are not, each with why."""
    return [(row.row, row.why) for row in found if isinstance(row, Skipped)]


def counted(name: str, folder: Path, part: str, most: int | None = None) -> tuple[int, int, int]:
    """Examples, calls in them, and skipped rows. Two examples of one id are an error."""
    found = rows(name, folder, part, most)
    good = examples(found)
    again = [id for id, times in Counter(example.id for example in good).items() if times > 1]
    assert not again, again
    return len(good), sum(len(message.calls) for example in good for message in example.messages), len(skipped(found))


def said(example: Example) -> list[str]:
    """Each message as ROLE: words, followed by NAME(arguments) of its calls; a tool by its name."""
    told = []
    for message in example.messages:
        calls = [f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})" for call in message.calls]
        told.append(" ".join([f"{message.name or message.role}:", *filter(None, [message.content]), *calls]))
    return told
