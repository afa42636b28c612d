"""What is left of a list: a person asked for the same with several things, and some of them have had their call."""

from __future__ import annotations

import re
from itertools import pairwise

# A web or mail address, or a word of five characters or more that begins with a letter and has a digit in it (i-bp1m02).
THING = re.compile(r"https?://[\x21-\x7e]+|[\w.+-]+@[\w-]+\.[\w.]+|(?=[\x21-\x7e]*\d)[A-Za-z][A-Za-z0-9._-]{4,}", re.ASCII)
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
        if (one in used or one in rest) and other not in used:
            rest.append(other)
        elif other in used and one not in used:
            rest.append(one)
    return rest
