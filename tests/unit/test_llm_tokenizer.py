"""Tokenizers made from GGUF metadata or a tokenizer.json split text as the libraries that the models were trained with."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path

import llguidance
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from services.llm.tokenizer import Vocabulary, tokenizer_from, tokenizer_from_file
from services.llm.weights import UnsupportedModel

CORPUS = [
    "The server i-bp1 expires in 3 months; renew it for 12 months, please. It's 2026-11-21, isn't it?",
    "请把服务器 i-bp1 续费三个月。它还没有停止，价格是 1234.50 元。服务器已经停止。请续费。",
    "def renew(instance_id: str, period: int) -> None:\n    if period > 12:\n        raise ValueError('too long')\n",
    "20260001 20260002 20261121 20261122 123456 123456 1234.50 1234.50",
    "Renew the server, stop the server, start the server. The servers' owners renewed them.",
] * 4
TEXTS = [
    "", " ", "  two  spaces ", "Hello, world!", "I'LL don't we've", "请续费 i-bp1 三个月。", "mixed 中文 and English 混合",
    "emoji 😀👩‍👩‍👧 é é ﬁ", "1 12 123 1234 12345", "a\nb\r\n\r\n  c\t\td", "<|im_end|></s><s>", "\u0000\x7f\u2028\ufeff",
]  # fmt: skip
SPECIAL = ["<|endoftext|>", "<|im_end|>"]
MARKUP = "<tool_call>"


class Metadata:
    """What a GGUF file says of its tokenizer."""

    def __init__(self, **fields: object) -> None:
        self.path = Path("model.gguf")
        self.fields = {f"tokenizer.ggml.{key}": value for key, value in fields.items()}

    def field(self, key: str) -> object:
        return self.fields.get(key)


def _llama3() -> Tokenizer:
    """As the tokenizer.json of Llama 3 has it."""
    split = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return tokenizer


def _qwen2() -> Tokenizer:
    """As the tokenizer.json of Qwen2 has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return tokenizer


def _smollm() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def _gpt2() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {"llama-bpe": _llama3, "qwen2": _qwen2, "smollm": _smollm, "gpt-2": _gpt2}


@cache
def trained(kind: str) -> Tokenizer:
    """A small tokenizer of a kind, trained and finished as Hugging Face's are."""
    # Trained on looser splits, it has merges that only the kind's own split keeps apart.
    tokenizer, own = _gpt2(), KINDS[kind]()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
    )
    tokenizer.pre_tokenizer = own.pre_tokenizer
    if own.normalizer is not None:
        tokenizer.normalizer = own.normalizer
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(MARKUP, special=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.ByteLevel()])
    return tokenizer


@cache
def gguf_of(kind: str) -> Metadata:
    """The same tokenizer as the metadata of a GGUF file."""
    tokenizer = trained(kind)
    size = tokenizer.get_vocab_size()
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    tokens = [tokenizer.id_to_token(index) for index in range(size)]
    types = [3 if token in SPECIAL else 4 if token == MARKUP else 1 for token in tokens]
    return Metadata(model="gpt2", pre=kind, tokens=tokens, token_type=types, merges=[" ".join(pair) for pair in merges])


@cache
def pieces() -> sentencepiece.SentencePieceProcessor:
    """A small SentencePiece model like Llama 2's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in CORPUS for line in text.splitlines()), model_writer=model, vocab_size=420,
        model_type="bpe", byte_fallback=True, character_coverage=0.98, split_digits=True, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@cache
def sentencepiece_gguf() -> Metadata:
    model = pieces()
    ids = range(model.get_piece_size())

    def type_of(index: int) -> int:
        return 2 if model.is_unknown(index) else 3 if model.is_control(index) else 6 if model.is_byte(index) else 1

    return Metadata(
        model="llama", tokens=[model.id_to_piece(each) for each in ids], scores=[model.get_score(each) for each in ids],
        token_type=[type_of(each) for each in ids], unknown_token_id=0,
    )  # fmt: skip


@cache
def vocabulary(kind: str) -> Vocabulary:
    return Vocabulary(tokenizer_from(sentencepiece_gguf() if kind == "llama" else gguf_of(kind)))


def written(kind: str, text: str) -> str:
    """A text as its tokens give it back: Qwen2 composes characters, SentencePiece writes a space first."""
    if kind == "qwen2":
        return unicodedata.normalize("NFC", text)
    return f" {text}" if kind == "llama" and text else text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_gguf_tokenizers_split_as_the_ones_they_were_made_of(kind: str, text: str) -> None:
    reference = trained(kind)
    reference.encode_special_tokens = True
    assert vocabulary(kind).encode(text) == reference.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", TEXTS)
def test_scores_of_sentencepiece_become_the_same_merges(text: str) -> None:
    text = text.replace("\x00", "")  # it ends a text there
    assert vocabulary("llama").encode(text) == (pieces().encode(text) if text else [])


@pytest.mark.parametrize("kind", [*KINDS, "llama"])
@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_every_text_comes_back(kind: str, text: str) -> None:
    assert vocabulary(kind).decode(vocabulary(kind).encode(text)) == written(kind, text)


@pytest.mark.parametrize("kind", [*KINDS, "llama"])
def test_a_token_stands_for_the_bytes_that_it_decodes_to(kind: str) -> None:
    known = vocabulary(kind)
    tokenizer = Tokenizer.from_str(known.json)
    whole = 0
    for index in range(len(known)):
        said = known.bytes_of(index)
        if not known.is_special(index) and "\ufffd" not in said.decode(errors="replace"):
            assert tokenizer.decode([index], skip_special_tokens=False) == said.decode(), index
            whole += 1
    assert whole > 200


@pytest.mark.parametrize("kind", [*KINDS, "llama"])
def test_llguidance_reads_the_same_bytes(kind: str) -> None:
    known = vocabulary(kind)
    theirs = llguidance.LLTokenizer(known.json)
    plain = [index for index in range(len(known)) if not known.is_special(index)]
    marker = b"\xff"  # stands before special tokens there
    assert [index for index in plain if theirs.decode_bytes([index]) != known.bytes_of(index).replace(marker, b"")] == []


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_can_spell_a_special_token(kind: str) -> None:
    known = vocabulary(kind)
    for token in [*SPECIAL, MARKUP]:
        assert known.special(token) is not None
        assert not any(known.is_special(index) for index in known.encode(f"a {token}{token} b"))
        assert known.decode(known.encode(f"a {token} b")) == f"a {token} b"
    assert sorted(known.names) == sorted([*SPECIAL, MARKUP])


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_json_reads_as_its_gguf(kind: str, tmp_path: Path) -> None:
    trained(kind).save(str(tmp_path / "tokenizer.json"))
    loaded = Vocabulary(tokenizer_from_file(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        assert loaded.encode(text) == vocabulary(kind).encode(text)
    assert json.loads(loaded.json)["decoder"]["type"] == "ByteLevel"
    assert [loaded.bytes_of(index) for index in range(len(loaded))] == [
        vocabulary(kind).bytes_of(index) for index in range(len(loaded))
    ]


def test_llama3_takes_a_word_that_it_has_whole_without_merges() -> None:
    fields = gguf_of("llama-bpe").fields
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(types, list)
    for kind, whole in (("llama-bpe", True), ("gpt-2", False)):
        metadata = Metadata(**{key.rpartition(".")[2]: value for key, value in fields.items()})
        metadata.fields |= {
            "tokenizer.ggml.pre": kind, "tokenizer.ggml.tokens": [*tokens, "xyzzy"], "tokenizer.ggml.token_type": [*types, 1],
        }  # fmt: skip
        assert (Vocabulary(tokenizer_from(metadata)).encode("xyzzy") == [len(tokens)]) is whole


def test_scores_rule_over_the_order_of_tokens() -> None:
    fields = sentencepiece_gguf().fields
    shuffled = Metadata(model="llama", unknown_token_id=0)
    first = 3 + 256  # what is no piece of text keeps its place
    order = [*range(first), *reversed(range(first, pieces().get_piece_size()))]
    for key in ("tokens", "scores", "token_type"):
        values = fields[f"tokenizer.ggml.{key}"]
        assert isinstance(values, list)
        shuffled.fields[f"tokenizer.ggml.{key}"] = [values[index] for index in order]
    known = Vocabulary(tokenizer_from(shuffled))
    for text in CORPUS[:5]:
        assert [order[index] for index in known.encode(text)] == vocabulary("llama").encode(text)


def test_a_sentencepiece_tokenizer_json_reads_as_its_gguf(tmp_path: Path) -> None:
    theirs = json.loads(vocabulary("llama").json)
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    theirs["decoder"] = {"type": "Sequence", "decoders": [*theirs["decoder"]["decoders"], *strip]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(theirs))
    loaded = Vocabulary(tokenizer_from_file(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        assert loaded.encode(text) == vocabulary("llama").encode(text)
        assert loaded.decode(loaded.encode(text)) == written("llama", text)


def test_runs_of_blanks_may_be_tokens_that_anybody_writes(tmp_path: Path) -> None:
    made = json.loads(trained("gpt-2").to_str())
    made["added_tokens"].append({**made["added_tokens"][0], "id": 503, "content": "    ", "special": False})
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    loaded = Vocabulary(tokenizer_from_file(tmp_path / "tokenizer.json"))
    assert 503 in loaded.encode("a    b")
    assert loaded.decode(loaded.encode("a    b")) == "a    b"


def test_ids_with_gaps_keep_their_tokens(tmp_path: Path) -> None:
    made = json.loads(trained("gpt-2").to_str())
    made["added_tokens"].append({**made["added_tokens"][0], "id": 700, "content": "<|far|>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    loaded = Vocabulary(tokenizer_from_file(tmp_path / "tokenizer.json"))
    assert (len(loaded), loaded.special("<|far|>"), loaded.bytes_of(650)) == (701, 700, b"")


def test_a_token_with_two_ids_is_refused(tmp_path: Path) -> None:
    made = json.loads(trained("gpt-2").to_str())
    made["added_tokens"].append({**made["added_tokens"][0], "id": 700, "content": "a"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(UnsupportedModel, match="two ids"):
        tokenizer_from_file(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"pre": "falcon"}, "gpt2, falcon"),
        ({"model": "bert"}, "bert"),
        ({"tokens": None}, "lack tokenizer.ggml.tokens"),
        ({"merges": ["a"]}, "no merge of two"),
        ({"token_type": [1]}, "1 types"),
        ({"model": "llama"}, "lack tokenizer.ggml.scores"),
    ],
)
def test_metadata_of_another_kind_are_refused(change: dict[str, object], why: str) -> None:
    metadata = Metadata()
    metadata.fields = gguf_of("gpt-2").fields | {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    with pytest.raises(UnsupportedModel) as refused:
        tokenizer_from(metadata)
    assert why in refused.value.why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no tokenizer"), ("{}", "no tokenizer"), ('{"model": {"type": "WordPiece"}}', "WordPiece"),
        ('{"model": {"type": "BPE"}, "added_tokens": []}', "neither"),
        ('{"model": {"type": "BPE", "byte_fallback": true}, "added_tokens": []}', "no tokenizer"),
    ],
)  # fmt: skip
def test_what_is_no_tokenizer_json_is_refused(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UnsupportedModel) as refused:
        tokenizer_from_file(tmp_path / "tokenizer.json")
    assert why in refused.value.why
