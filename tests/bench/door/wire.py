"""An HTTP client as thin as can be, so that its cost is not counted as the door's: a connection, an answer after another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from schemas.errors import MilepostError

_MOST = 1 << 22


class Wire:
    """A kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, key: str) -> None:
        self._reader, self._writer = reader, writer
        self._head = f"Host: {host}\r\nAuthorization: Bearer {key}\r\nAccept: */*\r\n"

    async def send(self, method: str, path: str, body: object = None) -> None:
        """A request."""
        data = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}{kind}\r\n".encode() + data)
        await self._writer.drain()

    async def head(self) -> dict[str, str]:
        """The head of the answer. Raises MilepostError for any status but 200."""
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        if lines[0].split(" ", 2)[1] != "200":
            said = await self._reader.read(2000)
            raise MilepostError(f"The door answered {lines[0]}.", why=said.decode(errors="replace"))
        return headers

    async def parts(self) -> AsyncIterator[bytes]:
        """The parts of an answer of unknown length, as they come, until its end."""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readuntil(b"\r\n")

    async def get(self, path: str) -> bytes:
        """A short answer, whole."""
        await self.send("GET", path)
        headers = await self.head()
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        return b"".join([part async for part in self.parts()])

    async def stream(self, method: str, path: str, body: object = None) -> AsyncIterator[bytes]:
        """The parts of a stream as they come."""
        await self.send(method, path, body)
        await self.head()
        async for part in self.parts():
            yield part


@asynccontextmanager
async def wired(url: str, key: str) -> AsyncIterator[Wire]:
    """A connection to the door for the time of the block."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port, limit=_MOST)
    try:
        yield Wire(reader, writer, at.netloc, key)
    finally:
        writer.close()
