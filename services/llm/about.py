"""What the files of a model say beside its weights: its tokenizer, how it is spoken to, and its licence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from tokenizers import Tokenizer

from schemas.errors import MilepostError
from services.llm.chat import FORMATS, ChatFormat
from services.llm.template import TemplateRefused, learn
from services.llm.tokenizer import Metadata, Vocabulary, tokenizer_from, tokenizer_from_file
from services.llm.weights import UnsupportedModel

TOKENIZER = "tokenizer.json"
_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
_GGUF_NAMES = ("bos", "eos", "unknown", "padding")
_LICENCE = re.compile(r"^license:\s*['\"]?([\w.+-]+)", re.MULTILINE)


class NoChatFormat(MilepostError):
    """A model does not say how it is spoken to, or is said to speak otherwise than it can."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why=why, hint=f"name the one it speaks: --chat {'|'.join(FORMATS)}")


@dataclass(frozen=True)
class About:
    """A model's own words. template: its chat template (Jinja); tokens: special tokens by the names templates use."""

    tokenizer: Tokenizer
    template: str | None
    tokens: Mapping[str, str]
    licence: str | None

    def chat(self, wanted: str | None, *, name: str) -> ChatFormat:
        """The chat format of that name, or the one that its template writes. Raises NoChatFormat, TemplateRefused."""
        vocabulary = Vocabulary(self.tokenizer)
        if wanted is not None:
            return _named(wanted, vocabulary)
        if self.template is None:
            raise NoChatFormat(f"{name} does not say how it is spoken to.", "it has no chat template")
        learnt = learn(self.template, self.tokens, vocabulary.names, name=name)
        if spelt := [role for role, frame in learnt.roles.items() if not any(frame) and role != "assistant"]:
            raise TemplateRefused(f"nothing tells a message of {spelt[0]} from another")
        return _recognised(learnt, vocabulary)


def _recognised(learnt: ChatFormat, vocabulary: Vocabulary) -> ChatFormat:
    """The format of ours that was learnt, if it is one: it knows what ends a message and frames a result, too."""
    for known in FORMATS.values():
        if known.begin == learnt.begin and learnt.roles.items() <= known.roles.items():
            ends = [end for end in known.ends if vocabulary.special(end) is not None and end not in learnt.ends]
            own = {"system": learnt.system, "reply": learnt.reply, "ends": (*learnt.ends, *ends)}
            return known.model_copy(update=own)
    return learnt


def _named(wanted: str, vocabulary: Vocabulary) -> ChatFormat:
    if wanted not in FORMATS:
        raise NoChatFormat(f"There is no chat format {wanted!r}.", f"known are {', '.join(FORMATS)}")
    chat = FORMATS[wanted]
    if vocabulary.special(chat.ends[0]) is None:
        raise NoChatFormat(f"The model does not speak {wanted}.", f"its vocabulary has no special token {chat.ends[0]}")
    return chat


def about_gguf(source: Metadata) -> About:
    """What the metadata of a GGUF file say. Raises UnsupportedModel."""
    tokenizer = tokenizer_from(source)
    tokens = {
        variable: name
        for variable, key in zip(_TOKEN_NAMES, _GGUF_NAMES, strict=True)
        if isinstance(index := source.field(f"tokenizer.ggml.{key}_token_id"), int)
        and (name := tokenizer.id_to_token(index)) is not None
    }
    template, licence = source.field("tokenizer.chat_template"), source.field("general.license")
    return About(tokenizer, _text(template), tokens, _text(licence))


def about_folder(folder: Path) -> About:
    """What a Hugging Face folder says. Raises UnsupportedModel."""
    if not (folder / TOKENIZER).is_file():
        raise UnsupportedModel(folder, f"it has no {TOKENIZER}")
    tokenizer = tokenizer_from_file(folder / TOKENIZER)
    config = _json(folder / "tokenizer_config.json")
    tokens = {variable: name for variable in _TOKEN_NAMES if (name := _token(config.get(variable)))}
    jinja = folder / "chat_template.jinja"
    template = jinja.read_text(encoding="utf-8") if jinja.is_file() else _template(config.get("chat_template"))
    return About(tokenizer, template, tokens, _licence(folder))


def _template(value: object) -> str | None:
    """A template, or the one named `default` of several."""
    if isinstance(value, list):
        return next((_text(each.get("template")) for each in value if _is_object(each) and each.get("name") == "default"), None)
    return _text(value)


def _token(value: object) -> str | None:
    return _text(value.get("content")) if _is_object(value) else _text(value)


def _licence(folder: Path) -> str | None:
    """The licence in the front matter of its README.md (https://huggingface.co/docs/hub/model-cards)."""
    readme = folder / "README.md"
    if not readme.is_file():
        return None
    _, begun, rest = readme.read_text(encoding="utf-8", errors="replace")[:20_000].partition("---\n")
    found = _LICENCE.search(rest.partition("\n---")[0]) if begun else None
    return found[1] if found else None


def _json(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedModel(path.parent, f"its {path.name} is no JSON: {error}") from error
    return value if _is_object(value) else {}


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
