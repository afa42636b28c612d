"""How much of what was said fits: tokens estimated without a tokenizer, texts cut to a length."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from schemas.events import Turn, TurnResult

HISTORY_TURNS = 50
"""How far back a turn looks, whatever the token budget."""

RESULTS = 8
RESULT_CHARACTERS = 500
SIMILAR_CHARACTERS = 1_500
EMBEDDED_CHARACTERS = 2_000


def within(turns: Sequence[Turn], tokens: int) -> tuple[Turn, ...]:
    """The newest of the turns whose estimated tokens fit the budget, newest last.

    Of a newest one that does not fit by itself the beginning: the next request is likely to be about it.
    """
    kept: list[Turn] = []
    left = tokens
    for turn in reversed(turns):
        left -= tokens_of(turn)
        if left < 0:
            break
        kept.append(turn)
    if not kept and turns and tokens:
        return (_begun(turns[-1], tokens),)
    return tuple(reversed(kept))


def _begun(turn: Turn, tokens: int) -> Turn:
    """A turn with so much of it as fits."""
    task = _fitting(turn.task, tokens // 2)
    return turn.model_copy(update={"task": task, "answer": _fitting(turn.answer, tokens - estimate(task)), "results": ()})


def _fitting(text: str, tokens: int) -> str:
    """The text, or as much of its beginning as has so many tokens with the sign that it went on."""
    if estimate(text) <= tokens:
        return text
    length = bisect_right(range(len(text) + 1), tokens - estimate(" …"), key=lambda end: estimate(text[:end])) - 1
    return cut(text, max(length, 0) + 2) if length > 0 else ""


def tokens_of(turn: Turn) -> int:
    """What a turn counts in a budget: what was said, and the files that later turns are told of."""
    files = sum(estimate(f"{result.tool}{result.ref}{result.text[:80]}") for result in turn.results if result.ref)
    return estimate(turn.task) + estimate(turn.answer) + files


def estimate(text: str) -> int:
    """Tokens of a text without a tokenizer: one for four ASCII characters, one for each other character."""
    ascii_characters = sum(map(str.isascii, text))
    return -(-ascii_characters // 4) + len(text) - ascii_characters


def cut(text: str, characters: int) -> str:
    """The text, or its beginning and a sign that it went on."""
    return text if len(text) <= characters else text[: characters - 2].rstrip() + " …"


def kept_results(results: Sequence[TurnResult]) -> tuple[TurnResult, ...]:
    """The last results of a turn, each cut to what a later turn can use; whole ones stand in the log."""
    return tuple(each.model_copy(update={"text": cut(each.text, RESULT_CHARACTERS)}) for each in results[-RESULTS:])


def shortened(turn: Turn) -> Turn:
    """A turn of long ago as it is told: many of them stand in one message."""
    return turn.model_copy(update={"task": cut(turn.task, SIMILAR_CHARACTERS), "answer": cut(turn.answer, SIMILAR_CHARACTERS)})


def embedded_text(task: str, answer: str) -> str:
    """What a turn is embedded and found as."""
    return cut(f"{cut(task, EMBEDDED_CHARACTERS)}\n{answer}", 2 * EMBEDDED_CHARACTERS)
