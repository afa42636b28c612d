"""What language a text is in, as far as the sets go."""

from __future__ import annotations

import re
from typing import Literal

_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")


def language_of(text: str) -> Literal["en", "zh"]:
    """Chinese if one letter in ten is, else English."""
    return "zh" if len(_CHINESE.findall(text)) * 10 >= max(len(text), 1) else "en"
