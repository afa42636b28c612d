"""Text to tokens and back: byte-level BPE made from GGUF metadata, with special tokens that text can never spell."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from services.llm.weights import UnsupportedModel, Weights

# Token types of GGUF (llama.cpp, enum llama_token_type): 3 is control, 4 is user-defined.
SPECIAL_TYPES = (3, 4)

QWEN2_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def tokenizer_from(weights: Weights) -> Tokenizer:
    """The tokenizer of a GGUF file; UnsupportedModel if its kind is not byte-level BPE as `qwen2` or `smollm` split it."""
    kind = (weights.field("tokenizer.ggml.model"), weights.field("tokenizer.ggml.pre"))
    tokens = cast("list[str]", weights.field("tokenizer.ggml.tokens"))
    merges = [cast("tuple[str, str]", tuple(m.split(" "))) for m in cast("list[str]", weights.field("tokenizer.ggml.merges"))]
    types = cast("list[int]", weights.field("tokenizer.ggml.token_type"))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=False))
    match kind:
        case ("gpt2", "qwen2"):
            tokenizer.normalizer = normalizers.NFC()
            split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, _bytes(use_regex=False)])
        case ("gpt2", "smollm"):
            digits = pre_tokenizers.Digits(individual_digits=True)
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, _bytes(use_regex=True)])
        case _:
            raise UnsupportedModel(weights.path, f"its tokenizer is of the kind {kind[0]}, {kind[1]}")
    # A plain ByteLevel decoder: with any other one llguidance takes the tokens for other bytes than they are.
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True) for token, kind_ in zip(tokens, types, strict=True) if kind_ in SPECIAL_TYPES]
    tokenizer.add_special_tokens(special)
    return tokenizer


def _bytes(*, use_regex: bool) -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


class Vocabulary:
    """A tokenizer whose special tokens are written by id alone: `<|im_end|>` in a person's text stays text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._special = {index: token.content for index, token in tokenizer.get_added_tokens_decoder().items()}
        self._bytes = [self._bytes_of(index) for index in range(tokenizer.get_vocab_size())]

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
        if index in self._special:
            return token.encode()
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
