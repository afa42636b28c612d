"""The gateway's address: which one it listens on, what may not be, and serving until the process is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterator

import structlog
import uvicorn
from starlette.types import ASGIApp

from infra.gateway.http_protocol import BoundedHead
from infra.settings import Door, Settings
from runtime.errors import Permanent

log = structlog.get_logger("infra.gateway")

USUAL_PORT = 8642
CONNECTIONS = 4000
"""So many at once, streams among them; more are answered 503."""


class DoorClosed(Permanent):
    """The door may not, or cannot, be opened at this address."""


class Served(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    def __init__(self, config: uvicorn.Config, ready: asyncio.Event) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready.set()


def listen(door: Door) -> socket.socket:
    """A listening socket. Raises DoorClosed."""
    wanted = [door.port] if door.port is not None else [USUAL_PORT, 0]
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    trouble = ""
    for port in wanted:
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((door.host, port))
            found.listen(1024)
        except OSError as error:
            found.close()
            trouble = error.strerror or str(error)
            continue
        found.setblocking(False)
        return found
    raise DoorClosed(
        f"The door cannot listen on {door.host}:{wanted[0]}.", why=trouble, hint="set MILEPOST_DOOR_PORT to another port, or 0"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_public(settings: Settings, has_keys: bool) -> None:
    """An address that others reach needs somebody to let in, and no plain text on the way. Raises DoorClosed."""
    door = settings.door
    if is_loopback(door.host):
        return
    if not has_keys and settings.oidc.issuer is None:
        raise DoorClosed(
            f"The door does not open at {door.host}.", why="others reach it, and there is neither a key nor an issuer",
            hint="milepost door keys add NAME --role operator, or set MILEPOST_OIDC_ISSUER",
        )  # fmt: skip
    if door.tls_cert is None and not door.behind_proxy:
        raise DoorClosed(
            f"The door does not open at {door.host}.", why="keys would cross the network in plain text",
            hint="set MILEPOST_DOOR_TLS_CERT and _KEY, or MILEPOST_DOOR_BEHIND_PROXY=true where a proxy speaks TLS",
        )  # fmt: skip


def address(settings: Settings, port: int) -> str:
    """The address as a person would write it."""
    door = settings.door
    if door.public_url:
        return door.public_url.rstrip("/")
    host = "127.0.0.1" if door.host in ("0.0.0.0", "::") else door.host
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if door.tls_cert else 'http'}://{shown}:{port}"


async def serve_app(app: ASGIApp, door: Door, listening: socket.socket, ready: asyncio.Event) -> None:
    """Serve until cancelled; open streams get a moment to end."""
    config = uvicorn.Config(
        app, http=BoundedHead, ws="none",
        log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2, timeout_keep_alive=75,
        ssl_certfile=door.tls_cert, ssl_keyfile=str(door.tls_key) if door.tls_key else None, server_header=False,
        proxy_headers=door.behind_proxy, limit_concurrency=CONNECTIONS,
    )  # fmt: skip
    server = Served(config, ready)
    serving = asyncio.ensure_future(server.serve([listening]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await asyncio.wait({serving}, timeout=3.0)
