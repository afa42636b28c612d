"""An operation of an API as a tool: planned by a look and a try, called once, and looked after when its answer is lost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from schemas.tools import Preview, ToolCard, ToolResult
from tool_adapters.openapi.answers import error_of, message_of, result_of
from tool_adapters.openapi.call import Call
from tool_adapters.openapi.pages import Next, Pages, chosen
from tool_adapters.openapi.request import Credentials, request_of
from tool_adapters.openapi.security import Keys
from tool_adapters.openapi.states import etag_of, outcome_of, state_of, text_of
from tool_adapters.tool import CallContext, OutcomeUnknown, Plan, Reconciled, ToolRefused, ToolUnavailable, read_only
from tool_adapters.web import Answer, NoAnswer, Request, Web

SHARE = 0.95
"""Of a call's time: what is left is for saying what went wrong."""

ROWS = 20
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Api:
    """What the operations of an API share. lane: of its source, for hints."""

    server: str
    web: Web
    keys: Keys

    @property
    def hint(self) -> str:
        """What to do about credentials that are not taken."""
        if self.keys.has():
            return "check the secrets that its --auth names"
        return "import it again with --auth SCHEME=env:VARIABLE"


class OperationTool:
    """One operation. Reads collect pages; writes are sent on a connection of their own, and never twice by themselves."""

    def __init__(self, card: ToolCard, call: Call, api: Api) -> None:
        self._card, self._call, self._api = card, call, api
        self._server = call.server or api.server

    @property
    def card(self) -> ToolCard:
        return self._card

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        """The request, the state of what it is about, and what the API says when it only tries it."""
        if self._card.effect == "read":
            raise read_only(self._card)
        until = time.monotonic() + SHARE * context.timeout_s
        request = await request_of(self._call, self._server, arguments, Credentials(), context)
        rows = [("call", f"{request.method} {request.url[:500]}"), *self._body_rows(arguments)]
        state: dict[str, object] = {}
        looked = await self._look(arguments, until) if self._call.look else None
        if looked is not None:
            state = state_of(looked)
            rows.append(("now", _shown(looked)))
        if self._call.dry_run and self._card.dry_run == "provider":
            await self._try(arguments, context, until)
            rows.append(("dry run", "the API would take it"))
        title = self._card.title or self._card.name
        return Plan(
            Preview(summary=f"{title}: {request.method} {urlsplit(request.url).path}", rows=tuple(rows)), text_of(state)
        )

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        until = time.monotonic() + SHARE * context.timeout_s
        if self._card.effect == "read":
            return await self._read(arguments, context, until)
        try:
            answer = await self._send(arguments, context, until)
        except NoAnswer as error:
            raise OutcomeUnknown(error.what, why=error.why, hint="look whether it was done") from error
        if answer.status >= 400:
            raise error_of(self._call, answer, self._api.hint)
        return await result_of(self._call, answer, context)

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        """By looking again at what was planned on; an operation without such a look tells nothing."""
        if self._card.effect == "read":
            raise read_only(self._card)
        if self._call.look is None:
            return Reconciled("unknown")
        now = await self._look(arguments, time.monotonic() + SHARE * context.timeout_s)
        sent = arguments.get(self._call.body.argument) if self._call.body else None
        outcome = outcome_of(self._call.method, sent, context.planned_state, now)
        if outcome != "happened":
            return Reconciled(outcome)
        result = ToolResult(text="It is gone.") if now.status >= 400 else await result_of(self._call, now, context)
        return Reconciled(
            "happened", ToolResult(text=f"It was done; its answer was lost. Now: {result.text}", parts=result.parts)
        )

    async def _read(self, arguments: dict[str, object], context: CallContext, until: float) -> ToolResult:
        try:
            answer = await self._send(arguments, context, until)
            if answer.status >= 400:
                raise error_of(self._call, answer, self._api.hint)
            pages = Pages(self._call, answer)
            while pages.wants_more() and pages.next and not chosen(self._call, arguments):
                if not pages.add(await self._further(pages.next, arguments, context, until)):
                    break
        except NoAnswer as error:
            raise ToolUnavailable(error.what, why=error.why) from error
        return await result_of(self._call, pages.answer(), context, pages.notes())

    async def _further(self, page: Next, arguments: dict[str, object], context: CallContext, until: float) -> Answer:
        if page.argument:
            return await self._send({**arguments, page.argument: page.value}, context, until)
        first = await self._request(arguments, context, until)
        secrets = first.secrets if _same_origin(page.url, first.url) else {}
        return await self._api.web.ask(replace(first, url=page.url, secrets=secrets), _left(until))

    async def _send(
        self, arguments: dict[str, object], context: CallContext, until: float, *, tries: bool = False
    ) -> Answer:  # fmt: skip
        """The answer; a token that is no longer taken is fetched anew, once."""
        answer = await self._api.web.ask(await self._request(arguments, context, until, tries=tries), _left(until))
        if answer.status == 401 and self._api.keys.forget_tokens():
            answer = await self._api.web.ask(await self._request(arguments, context, until, tries=tries), _left(until))
        return answer

    async def _request(
        self, arguments: dict[str, object], context: CallContext, until: float, *, tries: bool = False
    ) -> Request:  # fmt: skip
        credentials = await self._api.keys.credentials(self._call, _left(until))
        request = await request_of(self._call, self._server, arguments, credentials, context, tries=tries)
        etag = etag_of(context.planned_state) if self._call.match else None
        return replace(request, headers={**request.headers, "if-match": etag}) if etag else request

    async def _look(self, arguments: dict[str, object], until: float) -> Answer:
        """What is there. Raises ToolUnavailable when that cannot be seen for now."""
        look = self._call.look
        assert look is not None
        read = Call(method="GET", path=look.path, parameters=look.parameters, security=self._call.security)
        credentials = await self._api.keys.credentials(read, _left(until))
        context = CallContext(tenant="", run="", user="")
        try:
            answer = await self._api.web.ask(
                await request_of(read, self._server, arguments, credentials, context), _left(until)
            )
        except NoAnswer as error:
            raise ToolUnavailable(error.what, why=error.why) from error
        refusal = error_of(read, answer, self._api.hint) if answer.status >= 400 else None
        if isinstance(refusal, ToolUnavailable):
            raise refusal
        return answer

    async def _try(self, arguments: dict[str, object], context: CallContext, until: float) -> None:
        """Let the API try it. Raises what it would answer."""
        try:
            answer = await self._send(arguments, context, until, tries=True)
        except NoAnswer as error:
            raise ToolUnavailable(error.what, why=error.why) from error
        if answer.status < 400:
            return
        refusal = error_of(self._call, answer, self._api.hint)
        if isinstance(refusal, OutcomeUnknown):
            raise ToolUnavailable(refusal.what, why="it was only tried")
        if isinstance(refusal, ToolRefused):
            said = f"The API would not take it: {message_of(answer)}"
            raise ToolRefused(said, code=refusal.code, why=refusal.why, hint=refusal.hint)
        raise refusal

    def _body_rows(self, arguments: Mapping[str, object]) -> list[tuple[str, str]]:
        body = arguments.get(self._call.body.argument) if self._call.body else None
        if not isinstance(body, Mapping):
            return [("body", str(body)[:_SHOWN])] if body is not None else []
        return [(str(name), _line(value)) for name, value in list(body.items())[:ROWS]]


def _left(until: float) -> float:
    return max(0.05, until - time.monotonic())


def _same_origin(one: str, other: str) -> bool:
    first, second = urlsplit(one), urlsplit(other)
    return (first.scheme, first.hostname, first.port) == (second.scheme, second.hostname, second.port)


def _shown(answer: Answer) -> str:
    """What a person sees of the present state."""
    if answer.status in (404, 410):
        return "there is none"
    if answer.status >= 300:
        return f"it may not be read (HTTP {answer.status})"
    return _line(answer.text())


def _line(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
