"""Documents of the web, as files: only from public addresses, and only what can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from services.retrieval.documents import UnreadableDocument, UnsupportedDocument
from services.retrieval.loaders.formats import MEDIA_TYPES, SUFFIXES
from tool_adapters.tool import ToolRefused, ToolUnavailable
from tool_adapters.web import opened

MIB = 1024 * 1024
SIZE_LIMIT = 64 * MIB
SECONDS = 300.0
TRIES = 3
_PAUSE_S = 1.0
_OK = 200


async def download(url: str, folder: Path, allowed: Iterable[str] = ()) -> Path:
    """The document as a file whose suffix says its format. allowed: `host:port` places that may be asked though not public.

    Raises UnreadableDocument, UnsupportedDocument, and what the guard refuses.
    """
    for attempt in range(TRIES):
        try:
            return await _once(url, folder, frozenset(allowed))
        except ToolRefused as error:
            if error.code != "AddressForbidden":
                raise
            raise UnreadableDocument(error.what, why=error.why, hint=f"{_allowing(url)}, if it may be asked") from error
        except ToolUnavailable:
            if attempt + 1 == TRIES:
                raise
            await asyncio.sleep(_PAUSE_S * 2**attempt)
    raise AssertionError("unreachable")


async def _once(url: str, folder: Path, allowed: frozenset[str]) -> Path:
    async with opened(url, allowed, SECONDS, accept=", ".join(MEDIA_TYPES)) as response:
        if response.status in (429, 502, 503, 504):
            raise ToolUnavailable(f"The address answered HTTP {response.status}.")
        if response.status != _OK:
            raise UnreadableDocument(f"The address answered HTTP {response.status}.")
        target = folder / f"document{_suffix(str(response.url), response.content_type)}"
        size = 0
        with target.open("wb") as file:
            async for piece in response.content.iter_chunked(256 * 1024):
                size += len(piece)
                if size > SIZE_LIMIT:
                    raise UnreadableDocument(f"It has more than {SIZE_LIMIT // MIB} MiB.", hint="download it and split it")
                file.write(piece)
    return target


def _allowing(url: str) -> str:
    """The option of `milepost knowledge add` that lets this place be asked."""
    parts = urlsplit(url)
    return f"--allow {parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _suffix(url: str, media_type: str) -> str:
    """By what the server says it is; where that says little, by the address."""
    named = PurePosixPath(urlsplit(url).path).suffix.lower()
    if media_type in ("text/plain", "application/octet-stream", "binary/octet-stream") and named in SUFFIXES:
        return named
    if media_type in MEDIA_TYPES:
        return MEDIA_TYPES[media_type]
    raise UnsupportedDocument(f"The address answers {media_type}, which is not read.", why=f"read are {', '.join(MEDIA_TYPES)}")
