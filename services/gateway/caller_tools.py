"""The host of tools that clients bring with their requests: their calls wait until the client says what came of them.

Nothing is done here. A call is told as a question, which the log keeps; who began the run answers it (runtime/asking.py), and
the same call comes again with the answer. What was answered is read from the log, so an order alone makes nothing up, and
needs no right to be carried out.
"""

from __future__ import annotations

from runtime.errors import NotAsked
from runtime.fold import Folded
from runtime.log import Log
from runtime.service import Context, Service
from runtime.state import OpenCall, RunState
from runtime.steps import CALLER_LANE
from schemas.canonical import JsonObject, canonical
from schemas.commands import CallTool
from schemas.events import AnyEvent, Failure, ToolAsked, ToolFailed, ToolReturned
from schemas.ids import CommandId
from schemas.tools import Question, ToolCall, ToolResult

RESULT = "result"
FIELDS: JsonObject = {
    "type": "object", "properties": {RESULT: {"type": "string", "title": "Result"}}, "required": [RESULT],
    "additionalProperties": False,
}  # fmt: skip
_SHOWN = 1000


def caller_tools(journal: Log) -> Service:
    """The service that answers CallTool on the lane of clients' tools."""
    service = Service("tools", "waits for clients to answer the calls of their own tools", lane=CALLER_LANE, attempts=24)

    @service.on(CallTool)
    async def call(command: CallTool, context: Context) -> AnyEvent:
        folded = Folded(RunState(run=context.run))
        for stored in await journal.read(context.run):
            folded.add(stored)
        asked = folded.open.get(CommandId(context.order.id))
        if asked is None or asked.command != command:
            raise NotAsked(f"run {context.run} asks for no such call")
        return answered(command, folded.state.open_calls[command.call.id])

    return service


def answered(command: CallTool, open_call: OpenCall) -> AnyEvent:
    """The question, until it has an answer; then the result."""
    reply = next((each for each in reversed(open_call.replied) if each.question == RESULT), None)
    if reply is None:
        return ToolAsked(command=command, question=Question(id=RESULT, text=_shown(command.call), fields=FIELDS))
    if reply.content is None:
        return ToolFailed(command=command, failure=Failure(type="NotRun", what="The client would not run its tool."))
    return ToolReturned(command=command, result=ToolResult(text=str(reply.content.get(RESULT, ""))))


def _shown(call: ToolCall) -> str:
    """The call in short."""
    arguments = canonical(call.arguments).decode()
    short = arguments if len(arguments) <= _SHOWN else f"{arguments[: _SHOWN - 1]}…"
    return f"{call.name}({short})"
