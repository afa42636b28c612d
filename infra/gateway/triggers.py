"""Triggers and channels in the gateway's process: what watches, and how the outside is reached."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from runtime.errors import Unreachable
from schemas.canonical import JsonObject, read_json
from schemas.errors import ProtocolError
from services.gateway.channels.answering import Answering, Notices
from services.gateway.gateway import Gateway
from services.gateway.triggers.running import Running

if TYPE_CHECKING:
    import httpx

BASE = "MILEPOST_CHANNEL_BASE"
"""An address in place of the messengers' own, for tests: it is the process's to set, and no tenant's."""
_WAIT_S = 10.0
_LARGEST = 256 * 1024


def watch(gateway: Gateway) -> list[Coroutine[None, None, None]]:
    """What a gateway does beside answering requests."""
    return [Running(gateway).run(), Answering(gateway).run(), Notices(gateway).run()]


class HttpOutside:
    """services.gateway.ports.outside.Outside over HTTP and the process's environment."""

    def __init__(self, base: str | None = None) -> None:
        self.base = (os.environ.get(BASE, "") if base is None else base).rstrip("/")

    def secret(self, name: str) -> str | None:
        return os.environ.get(name) or None

    async def post(self, address: str, body: JsonObject) -> JsonObject:
        said = await self._ask("POST", address, body)
        try:
            found = read_json(said, limit=_LARGEST)
        except ProtocolError as error:
            raise Unreachable(f"{_host(address)} answers with something else than JSON.", why=str(error)) from error
        return dict(found) if isinstance(found, dict) else {}

    async def fetch(self, address: str) -> bytes:
        return await self._ask("GET", address, None)

    async def _ask(self, method: str, address: str, body: JsonObject | None) -> bytes:
        """Addresses may hold rights to write: errors name the host alone."""
        import httpx

        try:
            async with (
                httpx.AsyncClient(timeout=_WAIT_S, follow_redirects=False) as http,
                http.stream(method, address, json=body) as answer,
            ):
                said = await _bounded(answer)
                if answer.status_code >= 300:
                    raise Unreachable(f"{_host(address)} answers with status {answer.status_code}.")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"{_host(address)} does not answer.", why=type(error).__name__) from error
        return said


async def _bounded(answer: httpx.Response) -> bytes:
    pieces, size = [], 0
    async for piece in answer.aiter_bytes():
        size += len(piece)
        if size > _LARGEST:
            raise Unreachable("The answer is too large.", why=f"the limit is {_LARGEST} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _host(address: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(address).netloc.rpartition("@")[2]
