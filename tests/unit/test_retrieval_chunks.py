"""Documents to chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retrieval.chunks import UnreadableDocument, UnsupportedDocument, chunk, estimate, read_document

GUIDE = """Preface.

# One

First paragraph of one.

## Deep *er* ##

Deeper text. 深处的文字。

```sh
# no heading, a comment
```

After the code.

### Deepest

End of it.

# Two #

Second. 😀 End.
"""


def test_every_chunk_stands_where_it_says_and_nothing_but_headings_is_lost() -> None:
    pieces = chunk("guide.md", GUIDE, capacity=8)
    assert all(GUIDE[piece.start : piece.end] == piece.text for piece in pieces)
    covered = "".join(piece.text for piece in pieces)
    for word in ("Preface.", "First paragraph", "Deeper text.", "深处的文字", "# no heading", "After the code", "😀"):
        assert word in covered


def test_a_chunk_knows_the_headings_above_it() -> None:
    headings: dict[str, str] = {}
    for piece in chunk("guide.md", GUIDE, capacity=8):
        headings.setdefault(piece.heading, "")
        headings[piece.heading] += piece.text
    assert list(headings) == ["", "One", "One > Deep *er*", "One > Deep *er* > Deepest", "Two"]
    assert "After the code" in headings["One > Deep *er*"]


def test_a_text_has_no_headings() -> None:
    (piece,) = chunk("notes.txt", "# 1 apple\n\nand more")
    assert piece.heading == "" and piece.text == "# 1 apple\n\nand more"


def test_no_chunk_is_larger_than_the_capacity() -> None:
    pieces = chunk("long.txt", "云服务器续费 and so on. " * 300, capacity=40)
    assert len(pieces) > 30
    assert max(estimate(piece.text) for piece in pieces) <= 40


def test_a_hash_is_over_heading_and_text_not_over_the_place() -> None:
    one = chunk("a.md", "# H\n\ntext")[-1]
    moved = chunk("a.md", "moved\n\n# H\n\ntext", capacity=2)[-1]
    other = chunk("a.md", "# Other\n\ntext", capacity=2)[-1]
    assert chunk("a.md", "# H\n\ntext", capacity=2)[-1].hash == moved.hash != other.hash
    assert one.start != moved.start


@given(st.text(), st.integers(1, 50))
def test_any_text_can_be_chunked(text: str, capacity: int) -> None:
    for name in ("a.md", "a.txt"):
        for piece in chunk(name, text, capacity=capacity):
            assert text[piece.start : piece.end] == piece.text


def test_formats_that_are_not_read_are_refused_with_those_that_are() -> None:
    for name in ("a.pdf", "a", "a.docx", ".md"):
        with pytest.raises(UnsupportedDocument) as error:
            read_document(name, b"text")
        assert ".md" in error.value.why and ".txt" in error.value.why
    assert read_document("A.MD", b"text") == "text"


@pytest.mark.parametrize("raw", [b"", b" \n\t", b"\xff\xfe\x00a", b"a\x00b", "中文".encode("gb18030")])
def test_what_is_no_text_is_refused(raw: bytes) -> None:
    with pytest.raises(UnreadableDocument):
        read_document("a.txt", raw)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read_document("a.txt", b"\xef\xbb\xbftext") == "text"
