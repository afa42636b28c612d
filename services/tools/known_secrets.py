"""A secret that was resolved for a call, in the forms in which a tool may say it: as it is, in JSON, in a URL, in base64."""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from urllib.parse import quote, quote_plus

SHORTEST = 4
_SHORTEST_BASE64 = 8
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")
REPLACED = "[redacted: secret]"


def without(text: str, known: tuple[str, ...]) -> str:
    """The text without any of these secrets; of base64 the whole run of characters goes, since the secret is a part of it."""
    if not known:
        return text
    written, encoded = _forms(known)
    for form in written:
        text = text.replace(form, REPLACED)
    for piece in encoded:
        if piece in text:
            text = _without_run(text, piece)
    return text


@lru_cache(maxsize=64)
def _forms(known: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is written out, the longest first, and what base64 makes of it."""
    written: set[str] = set()
    encoded: set[str] = set()
    for secret in known:
        if len(secret) < SHORTEST:
            continue
        raw = secret.encode("utf-8", "surrogatepass")
        in_json = {json.dumps(secret, ensure_ascii=ascii)[1:-1] for ascii in (True, False)}
        in_json |= {form.replace("/", "\\/") for form in in_json}
        twice = {json.dumps(form)[1:-1] for form in in_json}  # JSON in a text in JSON
        in_url = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
        written |= {secret} | in_json | twice | in_url | {_lower_hex(form) for form in in_url}
        encoded |= {piece for piece in _in_base64(raw) if len(piece) >= _SHORTEST_BASE64}
    return tuple(sorted(written, key=lambda form: (-len(form), form))), tuple(sorted(encoded))


def _lower_hex(form: str) -> str:
    """`%2f` for `%2F`."""
    first, *rest = form.split("%")
    return "%".join([first, *(each[:2].lower() + each[2:] for each in rest)])


def _in_base64(raw: bytes) -> set[str]:
    """What stands in the base64 of every text that has it, such as `user:secret` of Basic authentication (RFC 7617).

    Where it begins within a group of three bytes is one of three places; characters that hold bits of what is before or
    after it are left out.
    """
    pieces: set[str] = set()
    for before in range(3):
        bits = 8 * (before + len(raw))
        whole = base64.b64encode(bytes(before) + raw).decode()[-(-8 * before // 6) : bits // 6]
        pieces |= {whole, whole.translate(str.maketrans("+/", "-_"))}
    return pieces


def _without_run(text: str, piece: str) -> str:
    """Each run of base64 characters with this piece in it is replaced."""
    kept: list[str] = []
    done = 0
    while (at := text.find(piece, done)) >= 0:
        begin, end = at, at + len(piece)
        while begin > done and text[begin - 1] in _BASE64:
            begin -= 1
        while end < len(text) and text[end] in _BASE64:
            end += 1
        kept += [text[done:begin], REPLACED]
        done = end
    return "".join([*kept, text[done:]])
