"""What every cloud's API has in common as a tool: plan -> dry run -> approve -> execute -> poll -> receipt.

A provider says what is its own in an `Operation` (how to look, what a write would change, how to send it); `CloudTool` is the
one order in which that happens, for every provider. Approval and receipt are the runtime's; they lie between `plan` and `call`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from schemas.canonical import canonical
from schemas.tools import Preview, ToolCard, ToolResult
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    Outcome,
    Plan,
    Reconciled,
    ToolError,
    answered,
    read_only,
    validate,
)

log = logging.getLogger(__name__)

Arguments: TypeAlias = dict[str, object]
Row: TypeAlias = dict[str, object]
State: TypeAlias = dict[str, object]

POLLED = 0.7
"""The share of a call's time that may go by until a change is no longer waited for."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 3.0

UNDER_WAY = frozenset({
    "accepted", "adding", "allocating", "associating", "attaching", "binding", "booting", "changing", "configuring",
    "converting", "creating", "deleting", "deploying", "detaching", "disassociating", "executing", "init", "initial",
    "initializing", "inprogress", "installing", "migrating", "modifying", "pending", "preparing", "processing", "progressing",
    "provisioning", "queued", "queuing", "rebooting", "releasing", "removing", "restarting", "resizing", "restoring",
    "rollingback",
    "scaling", "scheduled", "shuttingdown", "starting", "stopping", "submitted", "switching", "unbinding",
    "updating", "upgrading", "waiting",
})  # fmt: skip
"""What providers call a change that goes on, in lower case and without marks between words. Running is none of a server's."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How the world looks while a change goes on. unfinished: what it is still doing, such as `Stopping`; None at its end."""

    lines: tuple[str, ...] = ()
    unfinished: str | None = None


Ask: TypeAlias = Callable[[], Awaitable[Progress]]


@dataclass(frozen=True, slots=True)
class Executed:
    """An answer, and how to see whether what it began has ended; None where the answer is the end."""

    result: ToolResult
    progress: Ask | None = None


class Operation(Protocol):
    """One API of a cloud. Everything but `execute` only reads; a read has nothing but `execute`."""

    async def look(self, arguments: Arguments, context: CallContext) -> State:
        """The facts that the write depends on. What does not exist is left out."""
        ...

    async def preview(self, arguments: Arguments, state: State, context: CallContext) -> Preview:
        """What would change. Raises ToolRefused for what the provider would refuse."""
        ...

    async def try_dry(self, arguments: Arguments, context: CallContext) -> None:
        """The provider's own dry run, where it has one. Raises ToolRefused if it would not pass."""
        ...

    async def execute(self, arguments: Arguments, context: CallContext) -> Executed:
        """Send it once, with the write key as client token where the API takes one."""
        ...

    async def outcome(self, arguments: Arguments, planned: State, context: CallContext) -> tuple[Outcome, ToolResult | None]:
        """Whether the write planned on `planned` has happened, and what can be told of it."""
        ...


class CloudTool:
    """An operation of a cloud behind the Tool port."""

    def __init__(self, card: ToolCard, operation: Operation) -> None:
        self.card = card
        self._operation = operation

    async def plan(self, arguments: Arguments, context: CallContext) -> Plan:
        """Look at what the write would touch, and let the provider check it by a dry run where it offers one."""
        if self.card.effect == "read":
            raise read_only(self.card)
        validate(self.card, arguments)
        state = await self._operation.look(arguments, context)
        preview = await self._operation.preview(arguments, state, context)
        await self._operation.try_dry(arguments, context)
        return Plan(preview, canonical(state).decode())

    async def call(self, arguments: Arguments, context: CallContext) -> ToolResult:
        """Send it once. A change that goes on afterwards is followed to its end, or as long as the call may take."""
        validate(self.card, arguments)
        deadline = asyncio.get_running_loop().time() + context.timeout_s * POLLED
        executed = await self._operation.execute(arguments, context)
        result = executed.result
        if executed.progress is not None:
            lines = await followed(executed.progress, deadline)
            result = result.model_copy(update={"text": "\n".join((result.text, *lines))})
        return answered(self.card, result)

    async def reconcile(self, arguments: Arguments, context: CallContext) -> Reconciled:
        """Compare the state that the write was planned on with the present one.

        `unknown` of an API with a client token (idempotency "key") may be called again with the same write key.
        """
        if self.card.effect == "read":
            return Reconciled("not_happened")
        if context.planned_state is None:
            return Reconciled("unknown")
        planned: State = json.loads(context.planned_state)
        return Reconciled(*await self._operation.outcome(arguments, planned, context))


async def followed(progress: Ask, deadline: float) -> tuple[str, ...]:
    """Ask until nothing is unfinished, or until the deadline (of the loop's clock); gives the lines to tell.

    The write has happened: a question that fails or takes long must not hide that, so nothing is raised.
    """
    loop = asyncio.get_running_loop()
    begun, pause = loop.time(), FIRST_PAUSE_S
    last = Progress()
    with suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            while True:
                try:
                    last = await progress()
                    if last.unfinished is None:
                        return last.lines
                except ToolError as error:
                    log.info("a change could not be looked at: %s", error.what)
                except Exception:
                    log.exception("a change could not be looked at")
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_S, pause * 1.5)
    waited = f"not finished after {loop.time() - begun:.0f} s; ask again later how it is"
    return (*last.lines, f"{last.unfinished}, {waited}.") if last.unfinished else ("How it is now could not be seen.",)


def under_way(status: object) -> str | None:
    """The status, if it is one of a change that goes on."""
    word = str(status or "")
    plain = "".join(letter for letter in word.lower() if letter.isalpha())
    return word if plain in UNDER_WAY else None


def ids_of(arguments: Mapping[str, object], name: str) -> list[str]:
    """The ids among the arguments: one, several, or several in one text with commas. Raises InvalidArguments for none."""
    given = arguments.get(name)
    names = given if isinstance(given, list) else str(given or "").split(",")
    ids = list(dict.fromkeys(str(one).strip() for one in names if str(one).strip()))
    if not ids:
        raise InvalidArguments(f"No {name} was given.")
    return ids


def at(value: object, path: str) -> object:
    """What lies at a dotted path of an answer; None where there is nothing."""
    for step in path.split(".") if path else ():
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value


def rows_at(answer: object, path: str) -> list[Row]:
    """The rows at a path; one object there is one row."""
    found = at(answer, path)
    if isinstance(found, list):
        return [row for row in found if isinstance(row, dict)]
    return [found] if isinstance(found, dict) else []


def changes(rows: Sequence[tuple[str, object, object]]) -> tuple[tuple[str, str], ...]:
    """(what, before, after) as the rows of a preview."""
    return tuple((what, f"{before if before not in (None, '') else '(none)'} -> {after}") for what, before, after in rows)
