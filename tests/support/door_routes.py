"""Every route of the door, and what each is: the right that it needs, and whether a session may change something by it."""

from __future__ import annotations

import re
from functools import cache
from typing import TypeAlias

from services.gateway.app import create_app
from services.gateway.principal import Right
from tests.support.door import gateway

Route: TypeAlias = tuple[str, str]
"""Its method and its path, with {names} in it."""

UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
OPEN = {
    ("POST", "/api/session"): "signs in", ("DELETE", "/api/session"): "signs out", ("GET", "/healthz"): "tells nothing",
    ("POST", "/hooks/{tenant}/{name}"): "a signature lets in", ("POST", "/channels/{tenant}/{name}"): "a signature lets in",
}  # fmt: skip
"""Routes where nobody needs to be signed in, and why."""
RIGHTS_OF: dict[Route, Right] = {
    ("POST", "/v1/chat/completions"): "ask", ("POST", "/v1/responses"): "ask", ("DELETE", "/v1/responses/{id}"): "ask",
    ("POST", "/v1/responses/{id}/cancel"): "ask", ("POST", "/v1/embeddings"): "ask", ("POST", "/v1/files"): "ask",
    ("DELETE", "/v1/files/{id}"): "build",
    ("POST", "/api/runs/{run}/fork"): "ask", ("POST", "/api/runs/{run}/cancel"): "ask",
    ("POST", "/api/approvals/{run}/{command}"): "approve",
    ("POST", "/api/conversations/{id}/turns"): "ask", ("POST", "/api/conversations/{id}/files"): "ask",
    ("DELETE", "/api/tools/sources/{lane}"): "build", ("POST", "/api/tools/import/try"): "build",
    ("POST", "/api/tools/import"): "build", ("POST", "/api/tools/named/{name}/try"): "ask",
    ("POST", "/api/knowledge/{collection}/documents"): "ask", ("DELETE", "/api/knowledge/{collection}/documents/{id}"): "build",
    ("POST", "/api/agents/build"): "build", ("POST", "/api/agents/preview"): "build",
    ("POST", "/api/agents/{name}/evaluate"): "build", ("DELETE", "/api/agents/{name}/evaluations/{id}"): "build",
    ("PUT", "/api/agents/{name}"): "build", ("DELETE", "/api/agents/{name}"): "build",
    ("POST", "/api/agents/{name}/publish"): "build", ("POST", "/api/agents/{name}/unpublish"): "build",
    ("POST", "/api/agents/import"): "build",
    ("POST", "/api/triggers/test"): "build", ("PUT", "/api/triggers/{name}"): "build",
    ("DELETE", "/api/triggers/{name}"): "build", ("POST", "/api/triggers/{name}/enabled"): "build",
    ("POST", "/api/triggers/{name}/fire"): "build", ("GET", "/api/triggers/{name}/secret"): "build",
    ("PUT", "/api/channels/{name}"): "manage", ("DELETE", "/api/channels/{name}"): "manage",
    ("GET", "/api/system/dead"): "manage", ("POST", "/api/system/dead/{id}/requeue"): "manage",
    ("DELETE", "/api/system/dead/{id}"): "manage", ("GET", "/api/system/keys"): "manage",
    ("POST", "/api/system/keys"): "manage", ("DELETE", "/api/system/keys/{id}"): "manage",
}  # fmt: skip
READING = {
    ("POST", "/api/runs/{run}/replay"): "computes", ("POST", "/api/triggers/read"): "reads a text",
    ("POST", "/api/agents/read"): "reads a text", ("POST", "/api/agents/write"): "writes a text",
    ("POST", "/api/questions/{run}/{command}"): "looks itself who may: approvers, and who began the run",
}  # fmt: skip
"""Routes by which whoever may read sends something, and nothing changes without a further right."""

_RUN = "202611-" + "0" * 32
_STANDS_FOR = {"run": _RUN, "ref": "0" * 32, "n": "1", "id": "1", "command": "c1"}


@cache
def routes() -> tuple[Route, ...]:
    """All that /openapi.json tells of."""
    paths = create_app(gateway()).openapi()["paths"]
    return tuple((method.upper(), path) for path, methods in paths.items() for method in methods)


def filled(path: str, **values: str) -> str:
    """An address of a route; what is not given names nothing that is there."""
    return re.sub(r"{(\w+)}", lambda found: values.get(found[1]) or _STANDS_FOR.get(found[1], "nothing"), path)


def guarded() -> list[Route]:
    """Those that let nobody in who is not signed in."""
    return [route for route in routes() if route not in OPEN]
