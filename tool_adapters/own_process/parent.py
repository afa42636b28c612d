"""The side that calls: it starts the process with the code, and starts it again when it dies or does not listen any more."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import sys
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import structlog
from pydantic import ValidationError

from runtime.errors import Retryable
from schemas.errors import MilepostError
from schemas.tools import ToolCard, ToolResult
from tool_adapters.own_process.wire import (
    LINE_BYTES,
    Ask,
    Cancel,
    Failed,
    Granted,
    Told,
    ToParent,
    WantsKept,
    WantsLoaded,
    caller_of,
    error_of,
    line,
    plan_of,
    reconciled_of,
)
from tool_adapters.tool import (
    CallContext,
    InvalidTool,
    OutcomeUnknown,
    Plan,
    Reconciled,
    ToolError,
    ToolUnavailable,
    read_only,
    validate,
)

log = structlog.get_logger("tool_adapters.own_process")

LISTENS_S = 5.0
"""How long a process may be busy with itself once a call of it was given up."""
STARTS_S = 60.0
ENDS_S = 2.0
LOG_CHARACTERS = 500
OURS = "MILEPOST_"
SECRETS = "MILEPOST_SECRET_"


class _Gone(Exception):
    """The process died before it had answered."""


class OwnProcess:
    """One place's code in a process. kind and where: `folder` and its path, or `package` and its name."""

    def __init__(self, kind: str, where: str) -> None:
        self._kind, self._where = kind, where
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._number = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.Future[Told], CallContext | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._cards: dict[str, ToolCard] = {}

    async def cards(self) -> list[ToolCard]:
        """The tools that are there. Raises InvalidTool for code that cannot be loaded, ToolUnavailable."""
        await self._started()
        return list(self._cards.values())

    async def checked(self, card: ToolCard) -> None:
        """Raises ToolError when the code has another tool now than the card says."""
        await self._started()
        now = self._cards.get(card.name)
        if now is None or now.model_copy(update={"lane": card.lane}) != card:
            raise ToolError(
                f"{card.name} has changed since it was imported.", why="its code has another card now, or none",
                hint=f"milepost tools import {self._kind} {self._where}",
            )  # fmt: skip

    async def ask(self, asked: Ask, context: CallContext | None = None) -> Told:
        """Ask the process. Raises the ToolError that it answers with, and _Gone when it dies before it has."""
        process = self._process
        if process is None or process.stdin is None:
            raise _Gone
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting[asked.call] = (future, context)
        try:
            process.stdin.write(line(asked))
            await process.stdin.drain()
            return await future
        except (ConnectionError, OSError) as error:
            raise _Gone from error
        except asyncio.CancelledError:
            self._start(self._give_up(process, asked.call))
            raise
        finally:
            self._waiting.pop(asked.call, None)

    def number(self) -> int:
        """A number for a call."""
        return next(self._number)

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            await _ended(process)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ENDS_S)  # they see that it has ended
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _started(self) -> None:
        async with self._starting:
            if self._process is not None:
                return
            environment = {name: value for name, value in os.environ.items() if not _is_ours(name)}
            ours = str(Path(__file__).parents[2])
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (ours, environment.get("PYTHONPATH"))))
            command = (sys.executable, "-P", "-m", "tool_adapters.own_process.child", f"--{self._kind}", self._where)
            try:
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                    limit=LINE_BYTES, env=environment, cwd=self._where if self._kind == "folder" else None,
                )  # fmt: skip
            except OSError as error:
                raise ToolUnavailable(f"The tools of {self._where} cannot be started.", why=str(error)) from error
            self._process = process
            self._start(self._listen(process))
            self._start(_logged(process, self._where))
            await self._load(process)

    async def _load(self, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(STARTS_S):
                self._cards = {card.name: card for card in (await self.ask(Ask(call=self.number(), want="cards"))).cards}
        except (ToolError, TimeoutError, _Gone, asyncio.CancelledError) as error:
            self._process = None
            await _ended(process)
            if isinstance(error, TimeoutError):
                raise InvalidTool(
                    f"{self._where} was not loaded within {STARTS_S:g} s.", why="its code does not end"
                ) from error
            if isinstance(error, _Gone):
                raise InvalidTool(f"{self._where} cannot be loaded.", why="its process ended while it was loading") from error
            raise

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            while raw := await process.stdout.readline():
                self._heard(process, raw)
        except ValueError:
            log.error("a tool said more than a line may have", of=self._where)
        finally:
            if self._process is process:
                self._process = None
            for future, _ in list(self._waiting.values()):
                if not future.done():
                    future.set_exception(_Gone())
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await _ended(process)

    def _heard(self, process: asyncio.subprocess.Process, raw: bytes) -> None:
        try:
            said = ToParent.validate_json(raw)
        except ValidationError as error:
            log.warning("a line of a tool cannot be read", of=self._where, why=str(error)[:300])
            return
        future, context = self._waiting.get(said.call, (None, None))
        if isinstance(said, WantsKept | WantsLoaded):
            self._start(self._grant(process, said, context))
        elif future is not None and not future.done():
            if isinstance(said, Failed):
                future.set_exception(error_of(said))
            else:
                future.set_result(said)

    async def _grant(
        self, process: asyncio.subprocess.Process, wanted: WantsKept | WantsLoaded, context: CallContext | None
    ) -> None:  # fmt: skip
        try:
            granted = await _granted(wanted, context)
        except MilepostError as error:
            granted = Granted(wish=wanted.wish, error=error.what, away=isinstance(error, Retryable))
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write(line(granted))
            await process.stdin.drain()

    async def _give_up(self, process: asyncio.subprocess.Process, call: int) -> None:
        """Cancel a call that nobody waits for, and kill a process that does not listen: others wait for it."""
        assert process.stdin is not None
        try:
            process.stdin.write(line(Cancel(call=call)))
            async with asyncio.timeout(LISTENS_S):
                await self.ask(Ask(call=self.number(), want="ping"))
        except TimeoutError:
            log.warning("tools that do not listen any more are started again", of=self._where)
            with suppress(ProcessLookupError):
                process.kill()
        except (_Gone, OSError):
            return

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class ProcessTool:
    """A tool whose code is in such a process."""

    def __init__(self, card: ToolCard, process: OwnProcess) -> None:
        self.card = card
        self._process = process

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        if self.card.effect == "read":
            raise read_only(self.card)
        return plan_of(await self._asked("plan", arguments, context))

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        return (await self._asked("call", arguments, context)).result or ToolResult(text="done")

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        return reconciled_of(await self._asked("reconcile", arguments, context))

    async def _asked(self, want: str, arguments: dict[str, object], context: CallContext) -> Told:
        validate(self.card, arguments)
        await self._process.checked(self.card)
        question = Ask.model_validate({
            "call": self._process.number(), "want": want, "tool": self.card.name, "arguments": arguments,
            "caller": caller_of(context),
        })  # fmt: skip
        try:
            return await self._process.ask(question, context)
        except _Gone as error:
            why = "the process with its code died"
            if want == "call" and self.card.effect != "read":
                raise OutcomeUnknown(f"{self.card.name} did not say whether it was done.", why=why) from error
            raise ToolUnavailable(f"{self.card.name} did not answer.", why=why) from error


class CardSpec(Protocol):
    """As much of an imported tool's spec as is needed here."""

    @property
    def card(self) -> ToolCard: ...


class CodeSource:
    """A folder or a package that was imported. settings: {"folder": PATH} or {"package": NAME}, and a digest of the code."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        kind = "folder" if "folder" in settings else "package"
        self._process = OwnProcess(kind, str(settings[kind]))

    def tool(self, spec: CardSpec) -> ProcessTool:
        """The tool of a spec."""
        return ProcessTool(spec.card, self._process)

    async def close(self) -> None:
        """End its process."""
        await self._process.close()


async def _granted(wanted: WantsKept | WantsLoaded, context: CallContext | None) -> Granted:
    if isinstance(wanted, WantsLoaded):
        if context is None or context.load is None:
            return Granted(wish=wanted.wish, error="This call cannot read bytes.")
        data = base64.b64encode(await context.load(wanted.ref)).decode()
        return Granted(wish=wanted.wish, data=data)
    if context is None or context.keep is None:
        return Granted(wish=wanted.wish, error="This call cannot keep bytes.")
    raw = await asyncio.to_thread(base64.b64decode, wanted.data)
    part = await context.keep(raw, kind=wanted.part, media_type=wanted.media_type, name=wanted.name)
    return Granted(wish=wanted.wish, part=part)


async def _logged(process: asyncio.subprocess.Process, where: str) -> None:
    assert process.stderr is not None
    with suppress(ValueError):
        while raw := await process.stderr.readline():
            log.info("said", of=where, line=raw.decode(errors="replace").rstrip()[:LOG_CHARACTERS])


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(ENDS_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _is_ours(name: str) -> bool:
    """Settings of this process, the database's password among them, are nothing for other people's code."""
    return name.startswith(OURS) and not name.startswith(SECRETS)
