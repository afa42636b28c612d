"""A conversation as a model is to learn it: the tokens that serving would read and want, each with what it is part of.

The tokens before a reply are those of `services.llm.chat.encode` for the prompt that the reply answers, and the reply's are
encoded by themselves, as they are sampled: what is trained is what is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.messages import Prompt
from services.llm.chat import ChatFormat
from services.llm.tokenizer import Vocabulary
from services.llm.wire.form import Wire

KINDS = ("context", "answer", "markup", "name", "parameters", "url", "end")
"""What a token may be part of: what is only read; words; a call's syntax, tool, arguments, URL; the end of a message."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """Tokens and, for each, the index of its kind in KINDS; both of one length."""

    tokens: Sequence[int]
    kinds: Sequence[int]


def lesson(prompt: Prompt, chat: ChatFormat, wire: Wire, vocabulary: Vocabulary) -> Lesson:
    """A conversation whose assistant messages are to be learnt; all that follows the last of them is left out.

    Raises ValueError if the vocabulary cannot frame it, or no assistant speaks in it.
    """
    raise NotImplementedError
