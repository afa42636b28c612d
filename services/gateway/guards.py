"""What holds for every request, whatever its route: known hosts, bounded bodies, headers that keep browsers safe."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.rules import Rules

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY, "x-content-type-options": "nosniff", "x-frame-options": "DENY",
    "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}  # fmt: skip

LINGER_S = 1.0


class SafeHeaders:
    """Headers on every answer: nothing of a page comes from elsewhere, and no other page frames or reads it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith(("/api/", "/v1/")):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, safely)


class KnownHosts:
    """Answers only under its own names, so that no page leads a browser here under another (DNS rebinding)."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._hosts = app, frozenset(rules.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._hosts:
            host = Headers(scope=scope).get("host", "")
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if name not in self._hosts:
                await _refuse(421, "This is not the name of this door.", scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Takes no body that is larger or slower than the rules say; what comes with a file may be larger."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with_file = headers.get("content-type", "").startswith("multipart/form-data")
        limit = self._rules.file_bytes if with_file else self._rules.body_bytes
        said = headers.get("content-length", "")
        if said.isdigit() and int(said) > limit:
            await _refuse(413, f"The request has {said} bytes; the limit is {limit}.", scope, receive, send)
            return
        await self._app(scope, *self._bounded(limit, scope, receive, send))

    def _bounded(self, limit: int, scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """A body that breaks a rule ends as if the client had gone; whatever the app makes of that, the refusal is sent."""
        clock = asyncio.get_running_loop().time
        got, ends, whole = 0, clock() + self._rules.body_s, False
        refusal: tuple[int, str] | None = None
        started = refused = False

        async def bounded() -> Message:
            nonlocal got, whole, refusal
            if whole:
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, ends - clock())):
                    message = await receive()
            except TimeoutError:
                refusal = 408, "The request did not arrive in time."
                return {"type": "http.disconnect"}
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if got > limit:
                    refusal = 413, f"The request has more than {limit} bytes."
                    return {"type": "http.disconnect"}
            return message

        async def answer(message: Message) -> None:
            nonlocal started, refused
            if refusal is not None and not started:
                if not refused:
                    refused = True
                    await _refuse(*refusal, scope, receive, send)
                return
            started = True
            await send(message)

        return bounded, answer


async def _refuse(status: int, what: str, scope: Scope, receive: Receive, send: Send) -> None:
    """The connection is closed after it; what is still on its way is let come first, else the client might lose the answer."""

    async def lingering(message: Message) -> None:
        if status != 413 or message["type"] != "http.response.body":
            await send(message)
            return
        await send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})

    body = {"error": {"type": "Refused", "what": what, "why": "", "hint": "", "message": what}}
    await JSONResponse(body, status, {"connection": "close"})(scope, receive, lingering)
