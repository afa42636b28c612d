"""The words by which an earlier turn is found again: those that tell something, in English and Chinese.

Chinese is cut into pairs of adjoining characters, which needs no dictionary in this process.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 64
MOST = 128

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
_RUN = re.compile(rf"(?P<cjk>[{_CJK}]+)|[^\W_{_CJK}]+(?:[-_.][^\W_{_CJK}]+)*")
_EMPTY = frozenset(re.findall(r"\w+", """
    a about all also am an and any are as at be been but by can could did do does for from get got had has have he her him
    his how i if in is it its just know let like me my no not of ok on one or our out please say she should so some than
    thank thanks that the their them then there these they this those to too up us was we were what when where which who
    why will with would yes you your
"""))  # fmt: skip
_EMPTY_CHARACTERS = frozenset("的了是我你您他她它们在和与吗呢吧啊哦么这那就都也很还有请把被给对说谢哪谁")


def words(text: str) -> list[str]:
    """The telling words of a text, each once, in order: at most 128, lower-case, plural s cut off."""
    found: list[str] = []
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text).lower()):
        found.extend(_pairs(run[0]) if run["cjk"] else [_singular(run[0])])
        if len(found) > 8 * MOST:
            break
    return list(dict.fromkeys(word[:LONGEST] for word in found if word not in _EMPTY and not _is_letter(word)))[:MOST]


def _is_letter(word: str) -> bool:
    return len(word) == 1 and word.isascii() and word.isalpha()


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _pairs(run: str) -> list[str]:
    pairs = (run[at : at + 2] for at in range(max(len(run) - 1, 1)))
    return [pair for pair in pairs if not _EMPTY_CHARACTERS & set(pair)]
