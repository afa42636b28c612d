"""Threads for tools that are plain functions: so many at most, and none keeps a process from ending."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

from tool_adapters.tool import ToolUnavailable

T = TypeVar("T")

AT_ONCE = 64
"""More than a host calls side by side: what is full is full of functions that nobody waits for any more."""

_free = threading.BoundedSemaphore(AT_ONCE)


async def in_thread(function: Callable[[], T]) -> T:
    """Run it in a thread of its own; who gives up waiting leaves it running. Raises ToolUnavailable when all are taken."""
    free = _free
    if not free.acquire(blocking=False):
        raise ToolUnavailable(
            f"{AT_ONCE} tools are still running in this process.", why="functions that do not end keep their threads",
            hint="give what they call a timeout, or write them with async def",
        )  # fmt: skip
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = context.run(function)
        except BaseException as error:
            told, what = future.set_exception, error
            tell(lambda: told(_raisable(what)))
        else:
            tell(lambda: future.set_result(result))
        finally:
            free.release()

    def tell(settle: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(lambda: None if future.done() else settle())
        except RuntimeError:  # the loop is closed: nobody waits
            return

    threading.Thread(target=run, name="tool", daemon=True).start()
    return await future


def _raisable(error: BaseException) -> BaseException:
    """A future takes no StopIteration, and SystemExit would end the loop's thread."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
