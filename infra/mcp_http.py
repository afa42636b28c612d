"""The MCP server over streamable HTTP, on loopback or behind a token."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import structlog
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = structlog.get_logger("infra.mcp")

PATH = "/mcp"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


async def serve_http(server: Server[dict[str, object]], host: str, port: int, token: str | None) -> None:
    """Serve until cancelled, or told to stop. token: what every request must bear, if it is not None.

    Without a token only names of this machine are served, so that no web page can lead a browser here (DNS rebinding).
    """
    guarded = token is None and host in LOOPBACK
    app: ASGIApp = server.streamable_http_app(
        streamable_http_path=PATH, host=host,
        transport_security=None if guarded else TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )  # fmt: skip
    if token is not None:
        app = Bearer(app, token)
    config = uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    log.warning("serving", address=f"http://{host}:{port}{PATH}")
    await uvicorn.Server(config).serve()


class Bearer:
    """Lets requests through that bear the token; anything else is answered with 401."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._bears(scope):
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error": "a token is needed"}'})
            return
        await self._app(scope, receive, send)

    def _bears(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)
