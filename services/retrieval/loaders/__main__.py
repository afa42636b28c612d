"""The process in which files are read: a path and a name a line come in, a text or a refusal goes out.

Arguments: bytes of memory that it may have, and seconds of computing for each file.
In: JSON {"path", "name"} a line. Out: two parts, each after eight bytes of its length (big
endian): JSON, an Extracted without its text or {"refused": {"what", "why", "hint"}}; and the text in UTF-8.
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys
from pathlib import Path

import orjson

from schemas.errors import MilepostError
from services.retrieval.documents import UnreadableDocument
from services.retrieval.loaders.formats import load
from services.retrieval.loaders.limits import MIB, confine, confine_time
from services.retrieval.loaders.written import TEXT_LIMIT, too_long

LENGTH = struct.Struct(">Q")

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def main() -> None:
    """Answer requests until there are no more."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    memory, seconds = map(int, sys.argv[1:])
    confine(memory)
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        confine_time(seconds)
        try:
            parts = _answer(Path(asked["path"]), asked["name"])
        except MemoryError:
            parts = _refusal(UnreadableDocument(f"It takes more than {memory // MIB} MiB to read."))
        for part in parts:
            out.write(LENGTH.pack(len(part)))
            out.write(part)
        out.flush()
        parts = ()  # the next file has all the memory


def _answer(path: Path, name: str) -> tuple[bytes, ...]:
    try:
        found = load(path, name)
        if len(found.text) > TEXT_LIMIT:
            raise too_long()
        text = _UNSTORABLE.sub("\ufffd", found.text)  # one for one: offsets stay
        marks = [[mark.start, mark.end, mark.level, _UNSTORABLE.sub("", mark.title)] for mark in found.marks]
        title = _UNSTORABLE.sub("", found.title)
        about = orjson.dumps({**found.model_dump(exclude={"text", "marks"}), "title": title, "marks": marks})
        return about, text.encode()
    except MilepostError as error:
        return _refusal(error)
    except ImportError as error:
        hint = "pip install 'milepost[documents]'"
        return _refusal(UnreadableDocument("A library that reads it is not installed.", why=str(error), hint=hint))
    except OSError as error:
        return _refusal(UnreadableDocument("It cannot be opened.", why=error.strerror or str(error)))
    except MemoryError:
        raise
    except Exception as error:  # a library met bytes that its authors did not think of
        return _refusal(UnreadableDocument("It is broken.", why=f"{type(error).__name__}: {error}"[:200]))


def _refusal(error: MilepostError) -> tuple[bytes, ...]:
    """The refusal as it is answered."""
    said = {"what": error.what, "why": error.why, "hint": error.hint}
    return orjson.dumps({"refused": {key: _UNSTORABLE.sub("?", value) for key, value in said.items()}}), b""


if __name__ == "__main__":
    main()
