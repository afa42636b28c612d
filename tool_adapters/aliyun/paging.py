"""Reading a list on to its end, or to a limit that is said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from tool_adapters.cloud import Arguments
from tool_adapters.described.api import ApiCall

ROWS, PAGES = 500, 10
"""How many rows and pages are collected at most."""
SIZE = 20
"""Of a page whose size has to be said: what every API takes."""

Path = tuple[str, ...]


async def read_on(
    call: ApiCall, arguments: Arguments, ask: Callable[[Arguments], Awaitable[object]], timeout_s: float
) -> tuple[object, tuple[str, ...]]:  # fmt: skip
    """The answer with the rows of the pages behind it, and what is to be said of them.

    Who asks for a certain page gets that alone.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s * 0.7
    pages = call.pages
    asked_for_one = pages and any(arguments.get(name) not in (None, "") for name in (pages.token, pages.number) if name)
    if pages and pages.needed:
        arguments = {str(pages.number): 1, str(pages.size): SIZE, **arguments}
    answer = await ask(arguments)
    path = longest_list(answer)
    if pages is None or asked_for_one or path is None or not isinstance(answer, dict):
        return answer, _left(answer, ())
    rows, last, read = list(_at(answer, path)), answer, 1
    while (more := _following(call, arguments, last, len(rows), len(_at(last, path)), read)) is not None:
        if read == PAGES or len(rows) >= ROWS or asyncio.get_running_loop().time() > deadline:
            return _with(answer, path, rows), _left(last, (f"{len(rows)} rows were read, and there are more.",))
        following = await ask({**arguments, **more})
        if not isinstance(following, dict) or not _at(following, path):
            break
        rows, last, read = rows + _at(following, path), following, read + 1
    notes = (f"{len(rows)} rows of {read} pages.",) if read > 1 else ()
    return _with(answer, path, rows), notes


def _following(
    call: ApiCall, arguments: Arguments, last: Mapping[str, object], rows: int, of_last: int, read: int
) -> Arguments | None:
    """What the next page is asked for with; None behind the last."""
    pages = call.pages
    if pages is None:
        return None
    if pages.token:
        token = last.get("NextToken") or last.get("nextToken")
        return {pages.token: token} if token else None
    total = next(
        (last[name] for name in ("TotalCount", "totalCount", "TotalRecordCount", "Total", "TotalItemCount") if name in last),
        None,
    )
    if not pages.number or not str(total).isdigit() or rows >= int(str(total)) or not of_last:
        return None
    return {pages.number: read + 1}


def longest_list(answer: object, depth: int = 3) -> Path | None:
    """Where an answer keeps its rows: the path of its longest list of objects."""
    best: tuple[int, Path] | None = None

    def search(value: object, path: Path) -> None:
        nonlocal best
        if isinstance(value, list):
            if value and isinstance(value[0], Mapping | str) and (best is None or len(value) > best[0]):
                best = (len(value), path)
        elif isinstance(value, Mapping) and len(path) < depth:
            for name, inner in value.items():
                search(inner, (*path, str(name)))

    search(answer, ())
    return best[1] if best and best[1] else None


def _at(answer: Mapping[str, object], path: Path) -> list[object]:
    value: object = answer
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value if isinstance(value, list) else []


def _with(answer: Mapping[str, object], path: Path, rows: list[object]) -> dict[str, object]:
    """The answer with other rows in their place."""
    (name, *rest), body = path, dict(answer)
    inner = body.get(name)
    body[name] = _with(inner, tuple(rest), rows) if rest and isinstance(inner, Mapping) else rows
    return body


def _left(answer: object, notes: tuple[str, ...]) -> tuple[str, ...]:
    token = (answer.get("NextToken") or answer.get("nextToken")) if isinstance(answer, Mapping) else None
    return (*notes, f"More with NextToken={token}") if token else notes
