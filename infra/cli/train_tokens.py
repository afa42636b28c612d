"""Conversations of a token file as a model reads them, each token in the colour of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from infra.cli.show import clean, console, plain
from infra.cli.words import say


def print_lessons(path: Path, tokenizer: Path, weights: Mapping[str, float], count: int) -> None:
    """The first conversations of a token file, and what its colours mean."""
    from infra.training.preview import coloured, legend
    from services.llm.lesson import KINDS, Lesson
    from services.llm.tokenizer import Vocabulary, tokenizer_from_file
    from services.training.token_file import TokenFile

    file, vocabulary = TokenFile.read(path), Vocabulary(tokenizer_from_file(tokenizer))
    kinds = [KINDS.index(name) for name in file.names]
    out = console()
    for place in range(min(count, len(file))):
        row = slice(int(file.offsets[place]), int(file.offsets[place + 1]))
        lesson = Lesson(file.tokens[row].tolist(), [kinds[kind] for kind in file.kinds[row]])
        out.print(plain(f"── {place + 1} · {say('train so many tokens', count=len(lesson.tokens))} ──", "dim"))
        out.print(coloured(lesson, vocabulary, clean=clean), soft_wrap=True)
    out.print(legend(lambda kind: f"{say(f'train kind {kind}')} {weights.get(kind, 0):g}"))
