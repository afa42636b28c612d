"""What is left of a list: a person asked for the same with several things, and some of them have had their call."""

from __future__ import annotations

import re
from itertools import pairwise

# A web or mail address, or a word of five characters or more that begins with a letter and has a digit in it (i-bp1m02).
# How far is looked ahead is bounded: people paste long lines, and each character of them may begin a thing.
THING = re.compile(
    r"https?://[\x21-\x7e]+|[\w.+-]{1,64}@[\w-]+\.[\w.]+|(?=[\x21-\x7e]{0,128}\d)[A-Za-z][A-Za-z0-9._-]{4,}", re.ASCII
)
AND = re.compile(r"\s*(?:,|，|、|&|\+|/|and|as well as|和|与|及|以及|还有|跟)\s*(?:and\s+)?", re.IGNORECASE)


def left(request: str, used: str) -> list[str]:
    """What stands in a list beside something that was used, and was not used itself; used: the arguments so far, as text.

    Only lists count ("a and b", "a、b"): in "renew a, but leave b alone" nothing is left.
    """
    found = [(match.start(), match.group().rstrip(".,")) for match in THING.finditer(request)]
    rest: list[str] = []
    for (start, one), (begin, other) in pairwise(found):
        if not AND.fullmatch(request[start + len(one) : begin]):
            continue
        if (_occurs(one, used) or one in rest) and not _occurs(other, used):
            rest.append(other)
        elif _occurs(other, used) and not _occurs(one, used):
            rest.append(one)
    return rest


def _occurs(thing: str, text: str) -> bool:
    """Whether a thing occurs as a whole in JSON: i-bp1m1 does not in i-bp1m10, but does after an escaped newline."""
    return re.search(rf"(?:(?<![\w-])|(?<=\\[nrt])){re.escape(thing)}(?![\w-])", text, re.ASCII) is not None
