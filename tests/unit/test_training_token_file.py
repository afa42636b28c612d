"""Token files: written whole, read as they were, and refused where their arrays do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.training.data import Data
from services.training.plan import WEIGHTS, Plan
from services.training.refusal import Refused
from services.training.token_file import TokenFile

NAMES = tuple(WEIGHTS)
ANSWER, NAME = NAMES.index("answer"), NAMES.index("name")


def made() -> TokenFile:
    return TokenFile.of(
        [(7, [1, 2, 3], [0, 0, ANSWER]), (9, [4, 5, 6, 7, 8], [0, 0, NAME, NAME, ANSWER]), (11, [1, 2], [0, 0])], NAMES
    )


def plan(folder: Path, length: int = 8) -> Plan:
    return Plan("base", str(folder / "t.npz"), "", "out", length=length)


def test_it_reads_what_it_wrote(tmp_path: Path) -> None:
    made().write(tmp_path / "t.npz")
    read = TokenFile.read(tmp_path / "t.npz")
    assert read.names == NAMES
    assert read.lengths.tolist() == [3, 5, 2]
    assert [(one.dtype, one.tolist()) for one in (read.tokens, read.kinds, read.offsets, read.source)] == [
        (one.dtype, one.tolist()) for one in (made().tokens, made().kinds, made().offsets, made().source)
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["t.npz"]


def test_it_takes_conversations_in_any_order() -> None:
    taken = made().take([1, 0])
    assert taken.tokens.tolist() == [4, 5, 6, 7, 8, 1, 2, 3]
    assert taken.offsets.tolist() == [0, 5, 8]
    assert taken.source.tolist() == [9, 7]
    assert len(made().take([])) == 0


def test_data_leaves_out_what_is_too_long_or_teaches_nothing(tmp_path: Path) -> None:
    made().write(tmp_path / "t.npz")
    data = Data.read(tmp_path / "t.npz", plan(tmp_path))
    assert data.file.source.tolist() == [7, 9]
    assert (data.too_long, data.unweighted) == (0, 1)
    assert data.conversation_weights.tolist() == [1.0, 5.0]
    assert data.weighted_tokens == 4
    assert Data.read(tmp_path / "t.npz", plan(tmp_path, 4)).too_long == 1


def test_the_first_token_of_a_conversation_counts_for_nothing(tmp_path: Path) -> None:
    TokenFile.of([(0, [1, 2], [ANSWER, ANSWER])], NAMES).write(tmp_path / "t.npz")
    assert Data.read(tmp_path / "t.npz", plan(tmp_path)).weights.tolist() == [0.0, 1.0]


BROKEN = {
    "tokens": made().tokens[:-1],
    "kinds": made().kinds.astype(np.int64),
    "offsets": np.array([0, 5, 3, 10]),
    "source": made().source[:1],
    "names": np.array(["context"]),
}


@pytest.mark.parametrize("key", BROKEN)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, key: str) -> None:
    good = made()
    arrays = {
        "tokens": good.tokens,
        "kinds": good.kinds,
        "offsets": good.offsets,
        "source": good.source,
        "names": np.array(NAMES),
    }
    np.savez(tmp_path / "good.npz", **arrays)
    TokenFile.read(tmp_path / "good.npz")
    np.savez(tmp_path / "t.npz", **{**arrays, key: BROKEN[key]})
    with pytest.raises(ValueError, match=r".+"):
        TokenFile.read(tmp_path / "t.npz")
    np.savez(tmp_path / "t.npz", **{name: one for name, one in arrays.items() if name != key})
    with pytest.raises(ValueError, match=key):
        TokenFile.read(tmp_path / "t.npz")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut off", b"\x93NUMPY broken"])
def test_what_is_no_token_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(Refused, match="is no token file"):
        Data.read(tmp_path / "t.npz", plan(tmp_path))


def test_a_file_cut_off_is_refused(tmp_path: Path) -> None:
    made().write(tmp_path / "t.npz")
    content = (tmp_path / "t.npz").read_bytes()
    for size in range(0, len(content), 97):
        (tmp_path / "t.npz").write_bytes(content[:size])
        with pytest.raises(Refused, match="is no token file"):
            Data.read(tmp_path / "t.npz", plan(tmp_path))


def test_a_single_array_is_no_token_file(tmp_path: Path) -> None:
    with (tmp_path / "t.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(Refused, match="is no token file"):
        Data.read(tmp_path / "t.npz", plan(tmp_path))


def test_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    made().write(tmp_path / "t.npz")
    with pytest.raises(Refused) as caught:
        Data.read(tmp_path / "t.npz", plan(tmp_path, 2))
    assert "2 are longer than 2 tokens, 1 have no token with a weight" in caught.value.why


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is no token file"):
        Data.read(tmp_path / "t.npz", plan(tmp_path))
