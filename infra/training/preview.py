"""An example as a model is taught it, for a person to look at: its tokens as text, in the colours of their kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby

from rich.text import Text

from infra.training.teaching import Taught, Teacher
from services.datasets.example import Example, Skipped
from services.llm.lesson import KINDS, Lesson
from services.llm.tokenizer import Vocabulary

STYLES: Mapping[str, str] = {
    "context": "dim", "answer": "green", "markup": "cyan", "name": "bold magenta", "parameters": "yellow", "url": "blue",
    "end": "reverse",
}  # fmt: skip
EDGE = "·"


def preview(example: Example, teacher: Teacher, *, edges: bool = False, clean: Callable[[str], str] = str) -> Text:
    """Its sequences, one under the other, or why there are none.

    edges: whether to part the tokens that are taught; clean: takes out what a terminal must not be sent.
    """
    taught = teacher.teach(example)
    if isinstance(taught, Skipped):
        return Text.assemble((example.id, "bold"), f" {taught.why}")
    shown = (coloured(each, teacher.vocabulary, edges=edges, clean=clean) for each in taught.lessons)
    return Text("\n\n").join([_head(example, taught), *shown])


def coloured(lesson: Lesson, vocabulary: Vocabulary, *, edges: bool = False, clean: Callable[[str], str] = str) -> Text:
    """A sequence as text; special tokens stand by their names, a character that lies in two kinds in the last of them.

    clean: takes out what a terminal must not be sent.
    """
    text = Text()
    waiting = b""
    for kind, pairs in groupby(zip(lesson.kinds, lesson.tokens, strict=True), key=lambda pair: pair[0]):
        shown = ""
        for _, token in pairs:
            whole, waiting = _whole(waiting + vocabulary.bytes_of(token))
            shown += whole
            if edges and kind and not waiting:
                shown += EDGE
        text.append(clean(shown), STYLES[KINDS[kind]])
    return text.append(clean(waiting.decode(errors="replace")))


def legend(words: Callable[[str], str] = str) -> Text:
    """The kinds in their colours. words: what each is called."""
    return Text("   ").join(Text(words(name), STYLES[name]) for name in KINDS)


def _whole(held: bytes) -> tuple[str, bytes]:
    """The whole characters at the beginning of some bytes, and what is left of the last one."""
    for cut in range(min(4, len(held) + 1)):
        try:
            return held[: len(held) - cut].decode(), held[len(held) - cut :]
        except UnicodeDecodeError:
            continue
    return held.decode(errors="replace"), b""


def _head(example: Example, taught: Taught) -> Text:
    tokens = sum(len(each.tokens) for each in taught.lessons)
    learnt = sum(bool(kind) for each in taught.lessons for kind in each.kinds)
    parts = f" {example.source} {example.group} {example.language}".rstrip()
    cut = ", cut at the beginning" if taught.cut else ""
    return Text.assemble((example.id, "bold"), parts, f"  {learnt}/{tokens} tokens", cut)
