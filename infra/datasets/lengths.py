"""How many tokens a conversation has as a model reads it from the runtime: estimated, or counted by its tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from infra.training.teaching import Form, instructed
from schemas.errors import MilepostError
from services.datasets.example import Example

Length: TypeAlias = Callable[[Example], int]

_LATIN = 3.9  # characters of a token
_HAN = 0.75  # tokens of a character
_FRAME = 5  # tokens around a message
_WIDE = re.compile(r"[\u3000-\u9fff\uff00-\uffef]")


class NoTokenizer(MilepostError):
    """A model's tokenizer cannot be used."""


def estimated(example: Example) -> int:
    """Without a tokenizer: by the characters of what is read, tools as lines.

    Over HammerBench: 0.93 to 1.09 times what SmolLM2 counts of English, 1.03 to 1.20 times what Qwen2.5 does; of Chinese about
    what Qwen2.5 counts, and six tenths of what SmolLM2 does, which has no words of it.
    """
    from services.llm.chat import CHATML, turns
    from services.llm.wire import WIRES

    said = turns(instructed(example), CHATML, WIRES["json"])
    texts = ["".join(text) for _, text in said]
    wide = sum(len(_WIDE.findall(text)) for text in texts)
    return round((sum(map(len, texts)) - wide) / _LATIN + wide * _HAN) + _FRAME * len(said)


def form_of(name: str, home: Path) -> Form:
    """How a built model of this name, or in this folder, is spoken to. Raises NoTokenizer."""
    from infra.models.build import built
    from infra.models.catalogue import find

    folder = Path(name) if Path(name).is_dir() else next((each for _, each in built(find(name, home), home)), None)
    if folder is None:
        raise NoTokenizer(
            f"{name} is not built.", why="its tokenizer stands beside its graph", hint=f"milepost models build {name}"
        )
    return Form.built(folder)


def of_model(name: str, home: Path) -> Length:
    """Counted as a built model of this name, or in this folder, reads it. Raises NoTokenizer."""
    from services.llm.chat import encode
    from services.llm.wire import WIRES

    form = form_of(name, home)
    vocabulary, wire = form.vocabulary(), WIRES[form.wire]

    def counted(example: Example) -> int:
        return len(encode(instructed(example), form.chat, wire, vocabulary))

    return counted
