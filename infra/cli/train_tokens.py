"""Conversations as a model reads them, each token in the colour of its weight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from infra.cli.show import console, plain
from infra.cli.words import say

_STYLES = {
    "context": "dim", "answer": "yellow", "markup": "magenta", "name": "bold green", "parameters": "cyan", "url": "blue",
    "end": "reverse",
}  # fmt: skip


def print_lessons(path: Path, tokenizer: Path, weights: Mapping[str, float], count: int) -> None:
    """The first conversations of a token file, and what its colours mean."""
    from rich.text import Text

    from services.llm.tokenizer import Vocabulary, tokenizer_from_file
    from services.training.token_file import TokenFile

    file, vocabulary = TokenFile.read(path), Vocabulary(tokenizer_from_file(tokenizer))
    out = console()
    for place in range(min(count, len(file))):
        begin, end = int(file.offsets[place]), int(file.offsets[place + 1])
        text = Text()
        kinds = [file.names[kind] for kind in file.kinds[begin:end]]
        at = 0
        while at < len(kinds):  # tokens of one kind together: a character may span several
            to = next((to for to in range(at, len(kinds)) if kinds[to] != kinds[at]), len(kinds))
            said = b"".join(vocabulary.bytes_of(int(token)) for token in file.tokens[begin + at : begin + to])
            text.append_text(plain(said.decode(errors="replace"), _STYLES.get(kinds[at], "")))
            at = to
        out.print(plain(f"── {place + 1} · {say('train so many tokens', count=end - begin)} ──", "dim"))
        out.print(text, soft_wrap=True)
    legend = Text()
    for kind, style in _STYLES.items():
        legend.append(f"{say(f'train kind {kind}')} {weights.get(kind, 0):g}", style).append("   ")
    out.print(legend)
