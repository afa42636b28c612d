"""The process that has the code: it answers what the parent asks, and ends when the parent does.

python -P -m tool_adapters.own_process.child (--folder PATH | --package NAME)
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from runtime.errors import Permanent, Unreachable
from schemas.tools import Part, PartKind, Value
from tool_adapters.own_process import loading
from tool_adapters.own_process.wire import (
    Ask,
    Caller,
    Cancel,
    Granted,
    ToChild,
    Told,
    WantsKept,
    WantsLoaded,
    failed,
    line,
)
from tool_adapters.tool import CallContext, Tool, ToolError

Load = Callable[[], list[Tool]]


class Child:
    """The tools of one place, and the calls that are under way."""

    def __init__(self, load: Load, out: BinaryIO) -> None:
        self._load, self._out = load, out
        self._tools: dict[str, Tool] | None = None
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._wishes: dict[int, asyncio.Future[Granted]] = {}
        self._number = itertools.count(1)

    def hear(self, raw: bytes) -> None:
        """A line of the parent."""
        try:
            said = ToChild.validate_json(raw)
        except ValidationError as error:
            print(f"a line of the parent cannot be read: {error}", file=sys.stderr)
            return
        if isinstance(said, Granted):
            if (wish := self._wishes.pop(said.wish, None)) is not None and not wish.done():
                wish.set_result(said)
        elif isinstance(said, Cancel):
            if (task := self._calls.get(said.call)) is not None:
                task.cancel()
        else:
            self._calls[said.call] = task = asyncio.get_running_loop().create_task(self._answer(said))
            task.add_done_callback(partial(self._done, said.call))

    def _done(self, call: int, task: asyncio.Task[None]) -> None:
        self._calls.pop(call, None)

    async def _answer(self, asked: Ask) -> None:
        try:
            self._say(await self._told(asked))
        except Exception as error:
            self._say(failed(asked.call, error))

    async def _told(self, asked: Ask) -> Told:
        if asked.want == "ping":
            return Told(call=asked.call)
        if self._tools is None:
            self._tools = {tool.card.name: tool for tool in self._load()}
        if asked.want == "cards":
            return Told(call=asked.call, cards=tuple(tool.card for tool in self._tools.values()))
        tool = self._tools.get(asked.tool)
        if tool is None or asked.caller is None:
            raise ToolError(f"{asked.tool} is not there any more.", hint="import it again")
        context = _Wishes(self, asked.call).context(asked.caller)
        if asked.want == "plan":
            plan = await tool.plan(asked.arguments, context)
            return Told(call=asked.call, preview=plan.preview, state=plan.state)
        if asked.want == "reconcile":
            found = await tool.reconcile(asked.arguments, context)
            return Told(call=asked.call, outcome=found.outcome, result=found.result)
        return Told(call=asked.call, result=await tool.call(asked.arguments, context))

    async def wish(self, wanted: Callable[[int], Value]) -> Granted:
        """Ask the parent for something. Raises Unreachable, or Permanent with the reason."""
        number = next(self._number)
        future: asyncio.Future[Granted] = asyncio.get_running_loop().create_future()
        self._wishes[number] = future
        self._say(wanted(number))
        granted = await future
        if granted.error is not None:
            raise (Unreachable if granted.away else Permanent)(granted.error)
        return granted

    def _say(self, message: Value) -> None:
        self._out.write(line(message))
        self._out.flush()


class _Wishes:
    """What a call may wish for."""

    def __init__(self, child: Child, call: int) -> None:
        self._child, self._call = child, call

    def context(self, caller: Caller) -> CallContext:
        said = {name: getattr(caller, name) for name in Caller.model_fields if name not in ("keeps", "loads")}
        return CallContext(**said, keep=self.keep if caller.keeps else None, load=self.load if caller.loads else None)

    async def keep(self, data: bytes, *, kind: PartKind, media_type: str, name: str | None = None) -> Part:
        text = base64.b64encode(data).decode()
        granted = await self._child.wish(
            lambda wish: WantsKept(call=self._call, wish=wish, data=text, part=kind, media_type=media_type, name=name)
        )
        return granted.part or Part(kind=kind, media_type=media_type, name=name, size=len(data))

    async def load(self, ref: str) -> bytes:
        granted = await self._child.wish(lambda wish: WantsLoaded(call=self._call, wish=wish, ref=ref))
        return base64.b64decode(granted.data or "")


async def _serve(child: Child, source: BinaryIO) -> None:
    loop = asyncio.get_running_loop()

    def read() -> None:
        for raw in source:
            loop.call_soon_threadsafe(child.hear, raw)
        os._exit(0)  # the parent is gone: nobody waits for what is under way, and it may never end

    threading.Thread(target=read, daemon=True).start()
    await asyncio.Event().wait()


def main() -> None:
    """Answer until the parent is gone. What the code prints goes to the log, not between the lines."""
    kind, where = sys.argv[1:]
    source, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    load: Load = (lambda: loading.of_folder(Path(where))) if kind == "--folder" else (lambda: loading.of_package(where))
    asyncio.run(_serve(Child(load, out), source))


if __name__ == "__main__":
    main()
