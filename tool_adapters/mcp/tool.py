"""A server's tool on the port: pinned to what was approved, called in the source's one session, its questions a person's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

from pydantic import TypeAdapter, ValidationError

from schemas.canonical import canonical, digest
from schemas.tools import Preview, ToolCard, ToolResult
from tool_adapters.mcp.calls import CALL, PendingCall
from tool_adapters.mcp.cards import McpCall
from tool_adapters.mcp.http import EXCHANGE, Exchange
from tool_adapters.mcp.questions import held_open
from tool_adapters.mcp.results import result_of, said
from tool_adapters.mcp.session import Live, McpServer
from tool_adapters.mcp.words import seen
from tool_adapters.python import plan_on_run
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    NeedsAnswer,
    OutcomeUnknown,
    Plan,
    Reconciled,
    ToolError,
    ToolRefused,
    ToolUnavailable,
    read_only,
    validate,
)

if TYPE_CHECKING:
    from mcp import MCPError
    from mcp_types import CallToolResult, InputRequest, InputRequiredResult, InputResponse

ROUNDS = 20
"""How often one call may ask for more before it is given up."""

REFUSED_CODES = frozenset({-32602, -32601, -32600, -32002})
"""JSON-RPC codes with which a server says no before it has done anything."""


class McpTool:
    """One tool of a server."""

    def __init__(self, card: ToolCard, call: McpCall, server: McpServer) -> None:
        self.card = card
        self._call, self._server = call, server

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        """The call itself; or what the server's dry run says, where the operator named one."""
        if self.card.effect == "read":
            raise read_only(self.card)
        validate(self.card, arguments)
        plan = plan_on_run(self.card, arguments, context)
        if self._call.dry_run is None:
            return plan
        pending = PendingCall(self._call.tool, "")
        pending.begin(lambda own: self._send(own, {**arguments, str(self._call.dry_run): True}, Exchange(), reading=True))
        try:
            tried = await pending.until({})
        except NeedsAnswer as error:
            pending.give_up()
            raise ToolRefused(f"{self.card.name} asks while it is only tried.", code="DryRun", why=error.what) from error
        if tried.is_error:
            raise ToolRefused(f"{self.card.name} would not be done.", code="DryRun", why=seen(said(tried))[:1000])
        summary = f"{self.card.name} says it would: {seen(said(tried))}"[:500]
        return Plan(Preview(summary=summary, rows=plan.preview.rows), state=plan.state)

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        """Call it; a call that asked a person goes on where it stopped, as long as the process and the server wait.

        After that it is made anew, except a write that must not be sent twice: what its first half did nobody knows.
        """
        validate(self.card, arguments)
        reading = self.card.effect == "read"
        exchange = Exchange()
        key = self._key(arguments, context)
        pending = self._server.paused.pop(key, None)
        if pending is None and self.card.idempotency == "none" and not reading and held_open(context.answers):
            raise OutcomeUnknown(
                f"{self.card.name} asked a person in the middle of its work, and the call it asked in is gone.",
                why="how far it had come is not known, and made anew it could do that a second time",
            )
        if pending is None or pending.over:
            pending = PendingCall(self._call.tool, key)
            given = {name: value for name, value in arguments.items() if name != self._call.dry_run}
            pending.begin(lambda own: self._send(own, given, exchange, reading=reading))
        try:
            answered = await pending.until(context.answers)
        except ToolError as error:
            self._keep_open(pending, key, error)
            raise
        if answered.is_error:
            text = seen(said(answered)).strip()
            raise ToolRefused(text[:2000] or f"{self.card.name} said no.", code="ToolError", hint="")
        return await result_of(answered, self._call.output, context, reading=reading)

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        """A server cannot be asked what became of an earlier call."""
        return Reconciled("not_happened" if self.card.effect == "read" else "unknown")

    def _key(self, arguments: dict[str, object], context: CallContext) -> str:
        """What a call has in common with itself when it comes again with answers, which is a command of its own; empty for
        one by hand, which does not come again."""
        if not context.run:
            return ""
        said = canonical(arguments)
        return digest("mcp-call", context.tenant, context.run, self.card.name, said, context.write_key or "")

    def _keep_open(self, pending: PendingCall, key: str, error: ToolError) -> None:
        if not isinstance(error, NeedsAnswer):
            return
        if key:
            self._server.paused[key] = pending
            pending.hold(lambda: self._forget(key, pending))
        else:
            pending.give_up()

    def _forget(self, key: str, pending: PendingCall) -> None:
        if self._server.paused.get(key) is pending:
            del self._server.paused[key]

    # --- sending ---

    async def _send(
        self, pending: PendingCall, arguments: Mapping[str, object], exchange: Exchange, *, reading: bool
    ) -> CallToolResult:  # fmt: skip
        """In a task of its own, whose context the SDK carries along with the messages."""
        CALL.set(pending)
        EXCHANGE.set(exchange)
        async with self._server.under_way(pending):
            live = await self._approved()
            try:
                return await self._asked(live, pending, arguments)
            except Exception as error:
                if not _session_unknown(error, live, exchange):
                    self._fail(error, live, exchange, reading=reading)
            self._server.lost(live)  # it said that it does not know the session: nothing was done
            live = await self._approved()
            try:
                return await self._asked(live, pending, arguments)
            except Exception as error:
                self._fail(error, live, exchange, reading=reading)

    async def _approved(self) -> Live:
        """An open session in which the tool still is what was approved. Raises ToolError."""
        live = await self._server.live(fresh=True)
        there = live.tools.get(self._call.tool)
        if there is None:
            raise ToolRefused(
                f"{self.card.name} is not offered by its server any more.", code="ToolGone",
                hint=f"milepost tools sources refresh {self.card.lane}",
            )  # fmt: skip
        if there.pin != self._call.pin:
            raise ToolRefused(
                f"{self.card.name} has changed since it was approved.", code="ToolChanged",
                why="its server describes it otherwise now",
                hint=f"milepost tools sources refresh {self.card.lane} shows the difference and asks",
            )  # fmt: skip
        return live

    async def _asked(self, live: Live, pending: PendingCall, arguments: Mapping[str, object]) -> CallToolResult:
        """The result; rounds in which the server wants to know more go by way of the person."""
        from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult

        responses: dict[str, InputResponse] | None = None
        state: str | None = None
        for _ in range(ROUNDS):
            params = CallToolRequestParams(
                name=self._call.tool, arguments=dict(arguments), input_responses=responses, request_state=state
            )
            result = await live.session.send_request(CallToolRequest(params=params), _answers(), progress_callback=_progress)
            if isinstance(result, CallToolResult):
                return result
            responses = {
                key: await self._response(pending, each) for key, each in (result.input_requests or {}).items()
            } or None
            state = result.request_state
        raise ToolRefused(f"{self.card.name} asks without end.", code="TooManyRounds")

    async def _response(self, pending: PendingCall, asked: InputRequest) -> InputResponse:
        from mcp_types import ElicitRequest

        if isinstance(asked, ElicitRequest):
            return await pending.elicit(asked.params, held=False)
        raise ToolRefused(
            f"{self.card.name} wants {asked.method}.", code="NotOffered", why="servers are not lent a model or folders here"
        )

    def _fail(self, error: Exception, live: Live, exchange: Exchange, *, reading: bool) -> NoReturn:
        """What went wrong, told once: whether nothing happened, or whether nobody knows."""
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        name = self.card.name
        if isinstance(error, ToolError):
            raise error
        status = f" (HTTP {exchange.status})" if exchange.status >= 400 else ""
        why = f"{error}{status}"[:500] or type(error).__name__
        if exchange.unsent:
            raise ToolUnavailable(f"{name} could not be reached.", why=why) from error
        if exchange.status in (401, 403):
            raise ToolRefused(
                f"{name} may not be called.", code="Unauthorized", why=why,
                hint="is the header or the OAuth client of this source right? milepost tools sources ls",
            ) from error  # fmt: skip
        if exchange.status == 429 or (exchange.status == 503 and (reading or exchange.retry_after)):
            wait = float(exchange.retry_after) if exchange.retry_after.isdigit() else None
            raise ToolUnavailable(f"{name} cannot be called now.", why=why, retry_after_s=wait) from error
        if (
            isinstance(error, MCPError)
            and not exchange.broken
            and exchange.status < 500
            and error.code in REFUSED_CODES
            and not _unread(error)
        ):
            if error.code == -32602:
                raise InvalidArguments(f"{name} cannot be called with these arguments.", why=why) from error
            raise ToolRefused(f"{name} was refused by its server.", code=str(error.code), why=why) from error
        if not isinstance(error, MCPError) or error.code == CONNECTION_CLOSED:
            self._server.lost(live)
        if not reading:
            raise OutcomeUnknown(f"Whether {name} happened is not known.", why=why) from error
        answered = isinstance(error, MCPError) and error.code != CONNECTION_CLOSED
        answered = answered and exchange.status < 500 and not exchange.broken
        if isinstance(error, ValidationError) or answered:
            raise ToolRefused(
                f"{name} failed at its server.", code=str(getattr(error, "code", "BadAnswer")), why=why
            ) from error
        raise ToolUnavailable(f"{name} got no answer.", why=why) from error


@lru_cache(maxsize=1)
def _answers() -> TypeAdapter[CallToolResult | InputRequiredResult]:
    from mcp_types import CallToolResult, InputRequiredResult

    return TypeAdapter(CallToolResult | InputRequiredResult)


async def _progress(progress: float, total: float | None, message: str | None) -> None:
    """Heard, so that the server may tell it; how long a call may take stands in its card."""


def _unread(error: MCPError) -> bool:
    """Whether the SDK itself made the error, of an answer that it could not read."""
    return error.message.startswith(("Unexpected content type", "server answered a request with 202", "Redirect to"))


def _session_unknown(error: Exception, live: Live, exchange: Exchange) -> bool:
    """Whether the server answered that it does not know our session: it was started anew."""
    from mcp import MCPError

    return (
        isinstance(error, MCPError) and not live.modern and exchange.status in (400, 404) and "session" in error.message.lower()
    )
