"""The console's files: plain modules that a browser loads as they are, and one page that all addresses of it lead to.

Files are kept in memory with their compressed form, and read again when they change on disk.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

CONSOLE = Path(__file__).parent / "console"
SHELL = "/app.js"
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_IMPORT = re.compile(r"""^(?:import\b[^"'(]*|export\b[^"'(=]*\bfrom\s*)["'](\.[^"']+)["']""", re.MULTILINE)
_STYLE = re.compile(r"""^style\(["'](/[^"']+)["']\)""", re.MULTILINE)
_PAGE = re.compile(r"""/(\^\S+\$)/, \(\) => import\(["']\.(/[^"']+)["']\)""")


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent. needs: the modules that it imports; styles: the sheets that it brings."""

    kind: str
    body: bytes
    packed: bytes
    tag: str
    changed: tuple[int, int] = (0, 0)
    needs: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()

    def response(self, headers: Headers) -> Response:
        """Compressed where that is understood; nothing where the browser has it already."""
        said = {"etag": self.tag, "cache-control": "no-cache", "vary": "accept-encoding"}  # there is no build to name it
        if self.tag in headers.get("if-none-match", ""):
            return Response(status_code=304, headers=said)
        if "gzip" in headers.get("accept-encoding", ""):
            return Response(self.packed, headers={**said, "content-encoding": "gzip"}, media_type=self.kind)
        return Response(self.body, headers=said, media_type=self.kind)


def made(kind: str, body: bytes, address: str = "/", changed: tuple[int, int] = (0, 0)) -> File:
    """A file of this content. address: what its imports are relative to."""
    packed = gzip.compress(body, 9, mtime=0)
    tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    if kind != _KINDS[".js"]:
        return File(kind, body, packed, tag, changed)
    text = body.decode()
    needs = tuple(urljoin(address, each) for each in _IMPORT.findall(text))
    return File(kind, body, packed, tag, changed, needs, tuple(_STYLE.findall(text)))


class Pages(StaticFiles):
    """Files by their names; any other path without a dot is an address inside the console."""

    def __init__(self) -> None:
        super().__init__(directory=CONSOLE)
        self._kept: dict[str, File] = {}

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"allow": "GET, HEAD"})
        found = self.file(path)
        if found is None:
            if path != "." and ("." in path.rsplit("/", 1)[-1] or path.split("/", 1)[0] in ("api", "v1")):
                raise HTTPException(404)
            found = self.page("/" if path == "." else f"/{path}")
        return found.response(Headers(scope=scope))

    def file(self, path: str) -> File | None:
        """The file of this name, if there is one."""
        try:
            place, found = self.lookup_path(path)
        except (OSError, ValueError):  # no name for a file
            return None
        if found is None or not stat.S_ISREG(found.st_mode):
            return None
        kept, changed = self._kept.get(place), (found.st_mtime_ns, found.st_size)
        if kept is None or kept.changed != changed:
            where = Path(place)
            kept = self._kept[place] = made(_KINDS.get(where.suffix, "text/plain"), where.read_bytes(), f"/{path}", changed)
        return kept

    def page(self, address: str) -> File:
        """The one page, which names the modules that this address needs: a browser would learn of them one behind another."""
        index = self.file("index.html")
        if index is None:
            raise HTTPException(404)
        files = self.needed((SHELL, *self._modules(address)))
        links = [f'<link rel="modulepreload" href="{each}">' for each in files]
        sheets = dict.fromkeys(sheet for each in files.values() for sheet in each.styles)
        links += [f'<link rel="preload" as="style" href="{each}">' for each in sheets]
        return made(_KINDS[".html"], index.body.replace(b"</head>", "\n".join([*links, "</head>"]).encode(), 1))

    def needed(self, modules: Iterable[str]) -> dict[str, File]:
        """These modules and all that they import, by address, those first that are asked for first."""
        found: dict[str, File] = {}
        pending = list(modules)
        while pending:
            each = pending.pop(0)
            if each not in found and (file := self.file(each.removeprefix("/"))):
                found[each] = file
                pending += file.needs
        return found

    def _modules(self, address: str) -> list[str]:
        """The page that the shell will open at an address, by the shell's own table."""
        shell = self.file(SHELL.removeprefix("/"))
        pages = _PAGE.findall(shell.body.decode()) if shell else []
        return [module for pattern, module in pages if re.match(_python(pattern), address)][:1]


def _python(pattern: str) -> str:
    return str(pattern).replace(r"\/", "/").replace("(?<", "(?P<")


def pages() -> Pages:
    """The console, for mounting at the root."""
    return Pages()
