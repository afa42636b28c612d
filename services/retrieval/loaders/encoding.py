"""Bytes to text, whatever encoding they are in."""

from __future__ import annotations

import codecs
from pathlib import Path

from services.retrieval.documents import UnreadableDocument

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
# Encodings of documents that people have, not every one there is: a short text fits too many of those. Of what fits
# about as well, the earlier one is taken.
_LIKELY = [
    "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252", "cp1250", "cp1251", "koi8_r", "cp1256", "cp1255",
    "cp1253", "cp1254",
]  # fmt: skip
_SAMPLE = 1 << 20
_UNPRINTABLE = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_TOLERATED = 0.01
_AS_CLEAN, _AS_COHERENT = 0.03, 0.1


def read_text(path: Path, stated: str | None = None) -> str:
    """The text of a file. stated: the encoding that its sender named. Raises UnreadableDocument for what is no text."""
    return decode(path.read_bytes(), stated)


def decode(raw: bytes, stated: str | None = None) -> str:
    """Text by its byte order mark, as UTF-8, as stated, or in the encoding that fits it best; line ends stay as they are.

    Raises UnreadableDocument for what is no text.
    """
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return _whole(_strictly(raw, name))
    if (wide := _wide(raw[:_SAMPLE])) is not None:
        return _whole(_strictly(raw, wide))
    if sum(map(raw[:_SAMPLE].count, _each(_UNPRINTABLE))) > _TOLERATED * len(raw[:_SAMPLE]):
        raise UnreadableDocument("It is no text.", why="it holds binary data")
    for said in ("utf-8", stated):
        if said is not None and (text := _maybe(raw, said)) is not None:
            return _whole(text)
    return _whole(_strictly(raw, _likeliest(raw)))


def _each(values: bytes) -> list[bytes]:
    return [bytes([value]) for value in values]


def _wide(sample: bytes) -> str | None:
    """UTF-16 without its mark: half of its bytes, all even or all odd ones, are few and often zero."""
    if b"\x00" not in sample or len(sample) % 2:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    most, least, name = (odd, even, "utf-16-le") if odd > even else (even, odd, "utf-16-be")
    return name if most > len(sample) * 0.05 and least * 20 < most else None


def _likeliest(raw: bytes) -> str:
    from charset_normalizer import from_bytes

    found = from_bytes(raw[:_SAMPLE], cp_isolation=_LIKELY, threshold=0.3, enable_fallback=False)
    best = found.best()
    if best is None:
        raise UnreadableDocument("It is no text in an encoding that can be told.", hint="save it as UTF-8")
    close = [
        each for each in found if each.chaos <= best.chaos + _AS_CLEAN and each.coherence >= best.coherence - _AS_COHERENT
    ]  # fmt: skip
    fitting = {name for each in close for name in each.could_be_from_charset}
    return next(name for name in (*_LIKELY, best.encoding) if name in fitting)


def _maybe(raw: bytes, name: str) -> str | None:
    try:
        return raw.decode(name)
    except (UnicodeDecodeError, LookupError):
        return None


def _strictly(raw: bytes, name: str) -> str:
    try:
        return raw.decode(name)
    except UnicodeDecodeError as error:
        raise UnreadableDocument(f"It is no {name} text.", why=str(error)[:200], hint="save it as UTF-8") from error


def _whole(text: str) -> str:
    if "\x00" in text:
        raise UnreadableDocument("It is no text.", why="it holds NUL characters")
    return text
