"""Commands that ask the door itself, as the console does: over HTTP, with the data directory's own key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.errors import Unreachable
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from schemas.canonical import Json

_WAIT_S = 30.0
_LARGEST = 16 * 1024 * 1024


class Refused(MilepostError):
    """The door would not."""


def ask_door(
    home: Path | None, method: str, path: str, body: Mapping[str, object] | None = None, query: Mapping[str, str] | None = None
) -> Json:
    """What the door answers; None where it has nothing to say. Raises Refused with its reason, Unreachable."""
    import httpx

    from infra import stack
    from infra.cli.options import settings_from
    from infra.gateway.address import remembered
    from infra.gateway.door_secret import door_seed
    from schemas.canonical import read_json

    settings = settings_from(home).settings
    if not settings.nats.url:
        stack.attach(settings.home)
    address = remembered(settings.home) or settings.door.public_url
    if address is None:
        raise Unreachable("No door is open here.", why="no gateway has started in this data directory", hint="milepost up")
    headers = {"authorization": f"Bearer {door_seed(settings).local_key}"}
    try:
        url = f"{address.rstrip('/')}{path}"
        with httpx.Client(headers=headers, timeout=_WAIT_S, trust_env=False) as http:
            found = http.request(method, url, json=dict(body) if body is not None else None, params=dict(query or {}))
    except httpx.HTTPError as error:
        raise Unreachable(f"The door at {address} does not answer.", why=str(error), hint="milepost status") from error
    said = read_json(found.content, limit=_LARGEST) if found.content else None
    if found.is_success:
        return said
    told = said.get("error") if isinstance(said, dict) else None
    parts = {name: str(told.get(name) or "") for name in ("what", "why", "hint")} if isinstance(told, dict) else {}
    raise Refused(parts.get("what") or f"The door answers with status {found.status_code}.", why=parts.get("why", ""),
                  hint=parts.get("hint", ""))  # fmt: skip
