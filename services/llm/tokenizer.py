"""Text to tokens and back, from GGUF metadata or a tokenizer.json, with special tokens that text can never spell."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeGuard

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from services.llm.weights import UnsupportedModel

# Token types of GGUF (llama.cpp, enum llama_token_type): 3 is control, 4 is user-defined.
SPECIAL_TYPES = (3, 4)
BLANK = "\u2581"  # how SentencePiece writes a space
BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2_SPLIT = rf"{_WORDS}\p{{N}}{_REST}"
LLAMA3_SPLIT = rf"{_WORDS}\p{{N}}{{1,3}}{_REST}"


class Metadata(Protocol):
    """A model file whose metadata are read by key, None where it has none."""

    path: Path

    def field(self, key: str) -> object:
        """A value as Python's own type."""
        ...


def tokenizer_from(source: Metadata) -> Tokenizer:
    """The tokenizer of a GGUF file; UnsupportedModel if it splits text in a way that is not known here."""
    tokens, types = _texts(source, "tokens"), _numbers(source, "token_type")
    if len(tokens) != len(types):
        raise UnsupportedModel(source.path, f"it has {len(tokens)} tokens and {len(types)} types of tokens")
    kind, split = source.field("tokenizer.ggml.model"), source.field("tokenizer.ggml.pre")
    match kind:
        case "gpt2":
            tokenizer = _byte_level(source, tokens, str(split or "default"))
        case "llama":
            tokenizer = _sentencepiece(source, tokens)
        case _:
            raise UnsupportedModel(source.path, f"its tokenizer is of the kind {kind}, {split}")
    special = [AddedToken(token, special=True) for token, type_ in zip(tokens, types, strict=True) if type_ in SPECIAL_TYPES]
    tokenizer.add_special_tokens(special)
    return tokenizer


def tokenizer_from_file(path: Path) -> Tokenizer:
    """The tokenizer of a Hugging Face tokenizer.json, made to read and write as ours do. Raises UnsupportedModel."""
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        model = made["model"]
        if model["type"] != "BPE":
            raise UnsupportedModel(path, f"its tokenizer is of the kind {model['type']}, not BPE")
        if model.get("byte_fallback"):
            made["decoder"] = json.loads(_sentencepiece_decoder().__getstate__())
        elif "ByteLevel" in json.dumps([made.get("pre_tokenizer"), made.get("decoder")]):
            made["decoder"] = json.loads(decoders.ByteLevel().__getstate__())
        else:
            raise UnsupportedModel(path, "its tokens are neither GPT-2's bytes nor SentencePiece's with a fallback to bytes")
        made |= {"post_processor": None, "truncation": None, "padding": None}
        for token in made["added_tokens"]:
            # What is no special token can be spelled by anybody's text; runs of blanks are the only ones that may be.
            token["special"] = bool(token["special"] or token["content"].strip())
            # `tokenizers` numbers added tokens anew where their ids leave gaps, unless the model knows them, too.
            if model["vocab"].setdefault(token["content"], token["id"]) != token["id"]:
                raise UnsupportedModel(path, f"it gives {token['content']!r} two ids")
        return Tokenizer.from_str(json.dumps(made))
    except UnsupportedModel:
        raise
    except Exception as error:  # `tokenizers` has no errors of its own
        raise UnsupportedModel(path, f"it is no tokenizer that can be read: {str(error)[:200]}") from error


def _byte_level(source: Metadata, tokens: list[str], split: str) -> Tokenizer:
    """Byte-level BPE; the names of splits are llama.cpp's (llama-vocab.cpp)."""
    merges = [_pair(source, merge) for merge in _texts(source, "merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    llama3 = split in ("llama-bpe", "llama3", "llama-v3")
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=False, ignore_merges=llama3))
    match split:
        case "qwen2" | "deepseek-r1-qwen":
            tokenizer.normalizer = normalizers.NFC()
            tokenizer.pre_tokenizer = _splits(QWEN2_SPLIT)
        case "llama-bpe" | "llama3" | "llama-v3":
            tokenizer.pre_tokenizer = _splits(LLAMA3_SPLIT)
        case "smollm":
            digits = pre_tokenizers.Digits(individual_digits=True)
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, _bytes(use_regex=True)])
        case "gpt-2" | "default":
            tokenizer.pre_tokenizer = _bytes(use_regex=True)
        case _:
            raise UnsupportedModel(source.path, f"its tokenizer is of the kind gpt2, {split}")
    # A plain ByteLevel decoder: with any other one llguidance takes the tokens for other bytes than they are.
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _splits(pattern: str) -> pre_tokenizers.Sequence:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), _bytes(use_regex=False)])


def _bytes(*, use_regex: bool) -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _pair(source: Metadata, merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    if not left or not right:
        raise UnsupportedModel(source.path, f"{merge!r} is no merge of two tokens")
    return left, right


def _sentencepiece(source: Metadata, tokens: list[str]) -> Tokenizer:
    """SentencePiece's BPE (Llama 2, TinyLlama): scores instead of merges, unknown characters as bytes."""
    scores = _numbers(source, "scores")
    if len(scores) != len(tokens):
        raise UnsupportedModel(source.path, f"it has {len(tokens)} tokens and {len(scores)} scores")
    if not all(f"<0x{byte:02X}>" in tokens for byte in (0, 255)):
        raise UnsupportedModel(source.path, "its tokenizer has no tokens for single bytes")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    unknown = source.field("tokenizer.ggml.unknown_token_id")
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=_merges(vocabulary, scores), byte_fallback=True, fuse_unk=True,
            unk_token=tokens[unknown] if isinstance(unknown, int) else "<unk>",
        )
    )  # fmt: skip
    blank = normalizers.Replace(" ", BLANK)
    prefixed = source.field("tokenizer.ggml.add_space_prefix") is not False
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), blank]) if prefixed else blank
    tokenizer.decoder = _sentencepiece_decoder()
    return tokenizer


def _merges(vocabulary: Mapping[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """The merges that scores stand for: the piece with the best score is merged first, from whatever two pieces."""
    found = []
    for token, index in vocabulary.items():
        for cut in range(1, len(token)):
            left, right = vocabulary.get(token[:cut]), vocabulary.get(token[cut:])
            if left is not None and right is not None:
                found.append((-scores[index], index, left, right, token[:cut], token[cut:]))
    return [(left, right) for *_, left, right in sorted(found)]


def _sentencepiece_decoder() -> decoders.Sequence:
    return decoders.Sequence([decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()])


def _texts(source: Metadata, key: str) -> list[str]:
    values = source.field(f"tokenizer.ggml.{key}")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UnsupportedModel(source.path, f"its metadata lack tokenizer.ggml.{key}")
    return values


def _numbers(source: Metadata, key: str) -> list[float]:
    values = source.field(f"tokenizer.ggml.{key}")
    if not isinstance(values, list) or not _are_numbers(values):
        raise UnsupportedModel(source.path, f"its metadata lack tokenizer.ggml.{key}")
    return values


def _are_numbers(values: list[object]) -> TypeGuard[list[float]]:
    return all(isinstance(value, int | float) for value in values)


class Vocabulary:
    """A tokenizer whose special tokens are written by id alone: `<|im_end|>` in a person's text stays text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._special = {index: token.content for index, token in added.items() if token.special}
        self._plain = {index: token.content for index, token in added.items() if not token.special}
        self._fallback = bool(getattr(tokenizer.model, "byte_fallback", False))
        self._bytes = [self._bytes_of(index) for index in range(1 + max(tokenizer.get_vocab().values()))]

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """The vocabulary of a tokenizer.json."""
        return cls(Tokenizer.from_file(str(path)))

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def json(self) -> str:
        """The tokenizer as Hugging Face's JSON."""
        return self._tokenizer.to_str()

    def encode(self, text: str) -> list[int]:
        """The tokens of plain text."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def spans(self, text: str, *, behind: str = "") -> list[tuple[int, int, int]]:
        """The tokens of plain text, each with the characters that it covers: where they begin and end in the text.

        behind: a text that is read already, and goes on with this one; its own tokens are left out. SentencePiece begins
        what stands alone with a blank.
        """
        known = len(self.encode(behind)) if behind else 0
        found = self._tokenizer.encode(behind + text, add_special_tokens=False)
        places = [(max(0, begin - len(behind)), max(0, end - len(behind))) for begin, end in found.offsets]
        return [(token, *place) for token, place in zip(found.ids[known:], places[known:], strict=True)]

    @cached_property
    def blank_first(self) -> bool:
        """Whether plain text that stands alone begins with a blank of the tokenizer's own."""
        return self.decode(self.encode("a")).startswith(" ")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the special tokens."""
        return tuple(self._special.values())

    def special(self, token: str) -> int | None:
        """The id of a special token, None if the vocabulary has it not."""
        index = self._tokenizer.token_to_id(token)
        return index if index in self._special else None

    def is_special(self, index: int) -> bool:
        """Whether a token is no text."""
        return index in self._special

    def bytes_of(self, index: int) -> bytes:
        """The bytes that a token stands for; of a special token, its name. Ids that the table lacks stand for none."""
        return self._bytes[index] if index < len(self._bytes) else b""

    def decode(self, indices: Iterable[int]) -> str:
        """The text of tokens, special ones left out; broken UTF-8 becomes U+FFFD."""
        return b"".join(self.bytes_of(index) for index in indices if not self.is_special(index)).decode(errors="replace")

    def _bytes_of(self, index: int) -> bytes:
        token = self._tokenizer.id_to_token(index)
        if token is None:
            return b""
        if index in self._special or index in self._plain:
            return token.encode()
        if self._fallback:
            byte = BYTE_TOKEN.fullmatch(token)
            return bytes([int(byte[1], 16)]) if byte else token.replace(BLANK, " ").encode()
        return bytes(BYTE_OF[char] for char in token) if all(char in BYTE_OF for char in token) else token.encode()


class TextStream:
    """Tokens in, whole characters out: a character whose bytes span tokens waits for its last one."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, index: int) -> str:
        """The characters that this token completes."""
        return "" if self._vocabulary.is_special(index) else self._decoder.decode(self._vocabulary.bytes_of(index))

    def end(self) -> str:
        """What is left when no token follows."""
        return self._decoder.decode(b"", final=True)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's table of printable characters for all 256 bytes (bytes_to_unicode)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(rest)}


BYTE_OF = _byte_alphabet()
