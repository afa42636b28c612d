"""The console's files: plain modules that a browser loads as they are, and one page that all addresses of it lead to."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

CONSOLE = Path(__file__).parent / "console"


class Pages(StaticFiles):
    """Files by their names; any other path without a dot is an address inside the console."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            found = await super().get_response(path, scope)
        except HTTPException as error:
            inside = error.status_code == 404 and "." not in path.rsplit("/", 1)[-1]
            if not inside or path.split("/", 1)[0] in ("api", "v1"):
                raise
            found = FileResponse(CONSOLE / "index.html")
        found.headers["cache-control"] = "no-cache"  # asked for again each time, and answered 304: there is no build to name it
        return found


def pages() -> Pages:
    """The console, for mounting at the root."""
    return Pages(directory=CONSOLE, html=True)
