"""Documents to chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.retrieval.chunks import CRUMB, HEADING_CAPACITY, chunk, chunks_of, sections
from services.retrieval.documents import Extracted, Mark, markdown, plain
from services.retrieval.embedder import estimate

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
    assert max(estimate(piece.text) for piece in pieces) <= 40 + 40 // CRUMB


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


PAGED = Extracted(
    text="one one one\ntwo two two\nthree\n", title="Book",
    marks=(Mark(0, 0, 0, "Book"), Mark(0, 0, 1, "First"), Mark(12, 12, 1, "Second")), pages=(0, 12, 24),
)  # fmt: skip


def test_pages_and_headings_that_stand_in_no_line_are_kept() -> None:
    pieces = [piece for section in sections(PAGED) for piece in chunks_of(section)]
    assert [(piece.page, piece.heading, piece.text) for piece in pieces] == [
        (1, "Book > First", "one one one"), (2, "Book > Second", "two two two\nthree"),
    ]  # fmt: skip


def test_every_heading_of_markdown_counts_but_those_in_code() -> None:
    text = "Title\n=====\n\ntext\n\nSub #1\n---\n\n- item\n---\n\n```\n# no\n```\n## Closed ## \n#no\n####### no\n#\n"
    found = markdown(text)
    assert [(mark.level, mark.title) for mark in found.marks] == [(1, "Title"), (2, "Sub #1"), (2, "Closed"), (1, "")]
    assert [text[mark.start : mark.end] for mark in found.marks][:2] == ["Title\n=====", "Sub #1\n---"]
    assert found.title == "Title"


def test_the_title_of_the_front_matter_stands_above_all_headings() -> None:
    text = '---\nid: x\ntitle: "limit-count"\n---\n\nFirst.\n\n## Attributes\n\nText.\n'
    assert [(each.heading, each.text) for each in chunk("a.md", text, capacity=6)] == [
        ("limit-count", "First."), ("limit-count > Attributes", "## Attributes\n\nText."),
    ]  # fmt: skip


def test_what_readers_do_not_see_is_no_chunk() -> None:
    text = (
        "<!-- licence\n\nof the file -->\n\nimport Tabs from '@theme/Tabs';\n\n<head>\n<link/>\n</head>\n\nSeen.\n\n"
        "```html\n<!-- kept -->\n```\n"
    )
    (piece,) = chunk("a.md", text)
    assert piece.text.startswith("Seen.") and "<!-- kept -->" in piece.text


def test_crumbs_go_with_what_stands_beside_them() -> None:
    code = "".join(f"  key_{number}: value_{number}\n" for number in range(40))
    text = f"# One\n\n```yaml\n{code}```\n\nEnd.\n\n# Two\n\nShort.\n"
    pieces = chunk("a.md", text, capacity=80)
    assert min(estimate(piece.text) for piece in pieces if piece.heading == "One") >= 10
    assert max(estimate(piece.text) for piece in pieces) <= 90
    assert (pieces[-1].heading, pieces[-1].text) == ("Two", "# Two\n\nShort.")


def test_a_long_heading_leaves_room_for_the_text() -> None:
    text = f"# {'very ' * 200}\n\n## {'long ' * 200}\n\ntext\n"
    assert all(estimate(piece.heading) <= HEADING_CAPACITY for piece in chunk("a.md", text))


headed = st.lists(
    st.one_of(st.text(max_size=40), st.sampled_from(["# One", "## Two\n", "```", "---", "<!-- no -->", "", "x\n==="])),
    max_size=30,
).map("\n".join)


@given(headed, st.integers(1, 60), st.integers(1, 40))
def test_sections_are_the_whole_text_and_their_chunks_stand_where_they_say(text: str, size: int, capacity: int) -> None:
    for document in (markdown(text), plain(text)):
        stretches = list(sections(document, size))
        assert "".join(each.text for each in stretches) == text
        assert all(len(each.text) <= size for each in stretches)
        for piece in (piece for each in stretches for piece in chunks_of(each, capacity=capacity)):
            assert text[piece.start : piece.end] == piece.text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=30), st.integers(8, 60))
def test_a_section_knows_what_stands_above_it(titles: list[str], size: int) -> None:
    """Cut into sections or not, a place stands under the same headings and on the same page."""
    lines, marks, pages, at = [], [], [], 0
    for number, title in enumerate(titles):
        marks.append(Mark(at, at, 2 + number % 3, title))
        pages.append(at)
        lines.append(f"line {number}\n")
        at += len(lines[-1])
    document = Extracted(text="".join(lines), marks=tuple(marks), pages=tuple(pages))
    whole = {piece.start: piece for section in sections(document) for piece in chunks_of(section, len, 1)}
    for section in sections(document, size):
        for piece in chunks_of(section, len, 1):
            assert (piece.heading, piece.page) == (whole[piece.start].heading, whole[piece.start].page)
