"""JSON over HTTP with the library's services: what they answer, or a ToolError that says why not."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping

import orjson

from tool_adapters.tool import InvalidResult, ToolError, ToolRefused, ToolUnavailable
from tool_adapters.web import Answer, NoAnswer, Request, Web

LARGEST = 64 * 1024 * 1024

Object = Mapping[str, object]


class Remote:
    """One service. secrets: headers that open it. Called from threads: each call has connections of its own."""

    def __init__(self, tool: str, *, secrets: Mapping[str, str], allow: frozenset[str], timeout_s: float) -> None:
        self._tool, self._secrets, self._allow, self._timeout_s = tool, secrets, allow, timeout_s

    def post(self, url: str, body: Object, headers: Mapping[str, str] | None = None) -> Object:
        """POST JSON, read JSON. Raises ToolError."""
        sent = {"content-type": "application/json", "accept": "application/json", **(headers or {})}
        return self._read(self._ask(Request("POST", url, sent, self._secrets, orjson.dumps(body))))

    def get(self, url: str) -> Object:
        """GET JSON. Raises ToolError."""
        return self._read(self._ask(Request("GET", url, {"accept": "application/json"}, self._secrets)))

    def fetch(self, place: str) -> bytes:
        """The bytes of a medium: of its address, of a data URL, or of base64. Raises ToolError."""
        if place.startswith(("http://", "https://")):
            answer = self._ask(Request("GET", place), limit=LARGEST)
            if answer.cut or answer.status != 200:
                why = f"more than {LARGEST} bytes" if answer.cut else f"HTTP {answer.status}"
                raise InvalidResult(f"What {self._tool} made could not be fetched.", why=why)
            return answer.body
        try:
            return base64.b64decode(place.partition("base64,")[2] or place, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidResult(f"{self._tool} answered neither an address nor bytes.", why=place[:80]) from error

    def _ask(self, request: Request, limit: int = LARGEST) -> Answer:
        async def ask() -> Answer:
            web = Web(self._allow, body_limit=limit)
            try:
                return await web.ask(request, self._timeout_s)
            finally:
                await web.close()

        try:
            return asyncio.run(ask())
        except NoAnswer as error:
            raise ToolUnavailable(f"{self._tool} did not answer.", why=error.why or error.what) from error

    def _read(self, answer: Answer) -> Object:
        try:
            value = orjson.loads(answer.body) if answer.body else {}
        except orjson.JSONDecodeError:
            value = None
        if answer.status >= 400:
            raise self._failed(answer, value)
        if not isinstance(value, dict):
            raise ToolRefused(
                f"{self._tool} answered no JSON.", code="InvalidAnswer", why=answer.media_type or "no content type"
            )
        return value

    def _failed(self, answer: Answer, value: object) -> ToolError:
        said = value if isinstance(value, dict) else {}
        message = str(said.get("message") or said.get("Message") or said.get("errors") or answer.text()[:200])[:300]
        if answer.status in (429, 500, 502, 503, 504):
            after = answer.headers.get("retry-after", "")
            seconds = float(after) if after.isdigit() else None
            return ToolUnavailable(f"{self._tool} is busy (HTTP {answer.status}).", why=message, retry_after_s=seconds)
        code = str(said.get("code") or said.get("Code") or f"HTTP{answer.status}")
        hint = "check the key that is set for it" if answer.status in (401, 403) else ""
        return ToolRefused(f"{self._tool} was refused.", code=code, why=message, hint=hint)


def at(value: object, *path: str | int) -> object:
    """What stands at a path of an answer; None where it ends before."""
    for step in path:
        if isinstance(step, str) and isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def text_at(tool: str, value: object, *path: str | int) -> str:
    """A text at a path of an answer. Raises ToolRefused."""
    found = at(value, *path)
    if not isinstance(found, str) or not found:
        raise ToolRefused(
            f"{tool} answered otherwise than its protocol says.", code="InvalidAnswer", why=f"no {path[-1]} in it"
        )
    return found
