"""What can be told of texts and lists of numbers without a model."""

from __future__ import annotations

import difflib
import hashlib
import re
import statistics
from typing import Literal

from tool_adapters.builtin.calculator import shown
from tool_adapters.python import tool
from tool_adapters.tool import InvalidArguments

LONGEST = 50_000
MOST_LINES = 2_000

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@tool(
    name="text_statistics",
    title="Count words and characters",
    examples=("How many words are in this text?", "Count the characters", "这段话有多少字？", "统计字数"),
    tags=("text", "count"),
    timeout_s=5,
)
def text_statistics(text: str) -> dict[str, int]:
    """Count characters, words (a Chinese character counts as one), sentences and lines of a text.

    Args:
        text: The text.
    """
    chinese = len(_CHINESE.findall(text))
    words = len(_WORD.findall(_CHINESE.sub(" ", text)))
    return {
        "characters": len(text), "characters_without_spaces": len("".join(text.split())), "words": words + chinese,
        "sentences": len(re.findall(r"[.!?。！？]+(?:\s|$|(?=[^\s.!?]))", text)) or int(bool(text.strip())),
        "lines": len(text.splitlines()),
    }  # fmt: skip


@tool(
    name="text_difference",
    title="Compare two texts",
    examples=("What changed between these two texts?", "Diff the two versions", "比较这两段文字有什么不同"),
    tags=("text", "diff"),
    timeout_s=10,
)
def text_difference(old: str, new: str) -> str:
    """Show what differs between two texts, line by line, as a unified diff.

    Args:
        old: The earlier text.
        new: The later text.
    """
    if len(old) + len(new) > LONGEST:
        raise InvalidArguments(f"Texts of {LONGEST} characters in all can be compared.")
    before, after = old.splitlines(), new.splitlines()
    if len(before) + len(after) > MOST_LINES:
        raise InvalidArguments(f"Texts of {MOST_LINES} lines in all can be compared.")
    lines = difflib.unified_diff(before, after, "old", "new", lineterm="")
    return "\n".join(lines) or "They are the same."


@tool(
    name="text_hash",
    title="Checksum",
    examples=("What is the SHA-256 of this text?", "md5 of hello", "计算这段文字的哈希值"),
    tags=("hash", "checksum"),
    timeout_s=5,
)
def text_hash(text: str, algorithm: Literal["sha256", "sha512", "sha1", "md5"] = "sha256") -> str:
    """Compute the checksum of a text's UTF-8 bytes.

    Args:
        text: The text.
        algorithm: sha256, sha512, sha1 or md5.
    """
    return hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()


@tool(
    name="number_statistics",
    title="Statistics of numbers",
    examples=("What is the median of 3, 8 and 21?", "Mean and standard deviation of these numbers", "求这组数的平均值和中位数"),
    tags=("statistics", "numbers"),
    timeout_s=5,
)
def number_statistics(numbers: list[float]) -> dict[str, str | int]:
    """Tell count, sum, mean, median, minimum, maximum and standard deviation of numbers.

    Args:
        numbers: The numbers.
    """
    if not numbers:
        raise InvalidArguments("There are no numbers.")
    spread = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    values = {
        "sum": sum(numbers), "mean": statistics.fmean(numbers), "median": statistics.median(numbers),
        "minimum": min(numbers), "maximum": max(numbers), "standard_deviation": spread,
    }  # fmt: skip
    return {"count": len(numbers), **{name: shown(value) for name, value in values.items()}}
