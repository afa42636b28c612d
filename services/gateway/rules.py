"""What the door takes, from whom, how much and how fast."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """public_url: how others reach the door, without a slash at the end. hosts: names under which it answers (none: any).

    origins: web pages elsewhere that may call it (CORS). body_bytes, file_bytes: the largest request, and with a file in it.
    per_minute: requests of one principal, and unknown ones of one address; streams: open at once, of one principal.
    header_s, body_s: how long a request may take to arrive. local: whether the data directory's own key is good.
    """

    public_url: str
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    body_bytes: int = 4 * 1024 * 1024
    file_bytes: int = 64 * 1024 * 1024
    per_minute: int = 600
    streams: int = 64
    header_s: float = 10.0
    body_s: float = 60.0
    local: bool = True
    secure: bool = False
