"""What each loader makes of its format, and what it refuses."""

from __future__ import annotations

import datetime as dt
import json
import zipfile
from pathlib import Path

import pytest

from services.retrieval.chunks import Chunk, chunks_of, sections
from services.retrieval.documents import Extracted, UnreadableDocument, UnsupportedDocument
from services.retrieval.loaders.formats import SUFFIXES, load
from tests.support import files


def read(path: Path) -> tuple[Extracted, list[Chunk]]:
    """A file's text and chunks; each chunk stands where it says."""
    document = load(path, path.name)
    chunks = [each for section in sections(document) for each in chunks_of(section)]
    assert all(document.text[each.start : each.end] == each.text for each in chunks)
    return document, chunks


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableDocument) as error:
        load(path, path.name)
    return f"{error.value.what} {error.value.why} {error.value.hint}"


def written(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_a_pdf_keeps_its_pages_its_outline_and_its_title(tmp_path: Path) -> None:
    path = files.write_pdf(tmp_path / "a.pdf", [("Backups", "They run at 02:00."), ("Renewal", "A month ahead.")], "Handbook")
    document, chunks = read(path)
    assert document.title == "Handbook"
    assert [(each.page, each.heading) for each in chunks] == [(1, "Handbook > Backups"), (2, "Handbook > Renewal")]
    assert "They run at 02:00." in chunks[0].text and document.text[document.pages[1] :].startswith("Renewal")


def test_chinese_text_of_a_pdf_is_read(tmp_path: Path) -> None:
    _, (chunk,) = read(written(tmp_path / "a.pdf", files.chinese_pdf("云服务器到期前自动续费")))
    assert (chunk.text, chunk.page) == ("云服务器到期前自动续费", 1)


def test_a_pdf_that_opens_without_a_password_is_read_and_others_are_not(tmp_path: Path) -> None:
    path = files.write_pdf(tmp_path / "a.pdf", [("One", "Some text.")])
    assert "Some text." in load(files.lock_pdf(path, ""), "a.pdf").text
    assert "encrypted" in refusal(files.lock_pdf(path, "secret"))


def test_a_pdf_of_pictures_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    assert "OCR" in refusal(files.write_scan(tmp_path / "scan.pdf"))
    whole = files.write_pdf(tmp_path / "a.pdf", [("One", "text")]).read_bytes()
    assert "broken" in refusal(written(tmp_path / "cut.pdf", whole[: len(whole) // 2]))


def test_a_word_document_keeps_headings_and_names_the_columns_of_tables(tmp_path: Path) -> None:
    document, chunks = read(files.write_docx(tmp_path / "a.docx"))
    assert document.title == "Leave policy"
    assert "Grade: Senior; Days: 30" in document.text and "每人三十天" in document.text and "- Ask early" in document.text
    assert "## Days by grade" in document.text and chunks[0].heading == "Leave policy"


def test_an_office_file_that_is_cut_locked_or_a_bomb_is_refused(tmp_path: Path) -> None:
    path = files.write_docx(tmp_path / "a.docx")
    raw = path.read_bytes()
    assert "broken" in refusal(written(tmp_path / "cut.docx", raw[: len(raw) // 2]))
    assert "encrypted" in refusal(written(tmp_path / "old.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)))
    with zipfile.ZipFile(tmp_path / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as bomb, bomb.open("word/document.xml", "w") as out:
        for _ in range(49):
            out.write(bytes(1024 * 1024))
    assert "unpacks to more" in refusal(tmp_path / "bomb.docx")


@pytest.mark.parametrize(("name", "member"), [("a.docx", "word/document.xml"), ("a.xlsx", "xl/worksheets/sheet1.xml")])
def test_xml_that_laughs_a_billion_times_is_refused(tmp_path: Path, name: str, member: str) -> None:
    entities = "".join(f'<!ENTITY l{at} "{f"&l{at - 1};" * 10}">' for at in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY l0 "lol">{entities}]><l>&l9;</l>'.encode()
    whole = files.write_docx(tmp_path / name) if name == "a.docx" else files.write_xlsx(tmp_path / name, {"S": [["a"], [1]]})
    assert "broken" in refusal(files.with_member(whole, member, bomb, tmp_path / f"bomb-{name}"))


def test_a_workbook_gives_a_line_a_row_under_its_sheet(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        ["型号", "Price", "Since"],
        ["g7", 1.5, dt.date(2026, 1, 2)],
        [None, None, None],
        ["g8", 3.0, None],
    ]
    document, chunks = read(files.write_xlsx(tmp_path / "a.xlsx", {"价格": rows, "Notes": [["Remark"], ["first"]]}))
    assert document.text == "型号: g7; Price: 1.5; Since: 2026-01-02\n型号: g8; Price: 3\nRemark: first\n"
    assert [each.heading for each in chunks] == ["价格 > row 2", "Notes > row 2"]
    assert [mark.title for mark in document.marks] == ["价格", "row 2", "row 4", "Notes", "row 2"]


def test_a_table_of_text_names_its_columns_whatever_separates_them(tmp_path: Path) -> None:
    document, _ = read(written(tmp_path / "a.csv", 'name,note\nAnn,"says ""hi"", twice"\n\nBo\n'))
    assert document.text == 'name: Ann; note: says "hi", twice\nname: Bo\n'
    semicolons = "姓名;城市\n王伟;杭州市\n李娜;北京市海淀区\n".encode("gb18030")
    assert read(written(tmp_path / "b.csv", semicolons))[0].text == "姓名: 王伟; 城市: 杭州市\n姓名: 李娜; 城市: 北京市海淀区\n"
    assert read(written(tmp_path / "c.tsv", "a\tb\n1\t2,3\n"))[0].text == "a: 1; b: 2,3\n"


def test_json_says_the_path_of_everything(tmp_path: Path) -> None:
    value = {"name": "acme", "regions": [{"id": "cn-beijing", "zones": ["a", "b"]}], "odd key": {"deep": None}}
    document, chunks = read(written(tmp_path / "a.json", json.dumps(value)))
    assert [mark.title for mark in document.marks] == ["$", "$.regions[0]", '$["odd key"]']
    assert "id: cn-beijing\nzones: a, b\n" in document.text and "deep: null" in document.text
    assert chunks[0].heading == "$"
    assert "q: two" in read(written(tmp_path / "a.jsonl", '{"q":"one"}\n\n{"q":"two"}\n'))[0].text
    assert "no JSON" in refusal(written(tmp_path / "bad.json", '{"a": '))
    assert "too deep" in refusal(written(tmp_path / "deep.json", "[" * 100_000 + "]" * 100_000))


PAGE = """<html><head><title>My
 page</title><style>p {}</style></head><body><nav>menu</nav><h1>Guide</h1><!-- none -->
<p>Some <b>bold</b> <a href="http://x">link</a>, snake_case.</p><script>run()</script>
<table><tr><th>Key</th><th>Value</th></tr><tr><td>retries</td><td>3</td></tr></table>
<pre>code  here</pre><h2>Next</h2><ul><li>one</li></ul></body></html>"""


def test_a_page_becomes_its_words(tmp_path: Path) -> None:
    document, chunks = read(written(tmp_path / "a.html", PAGE))
    assert document.title == "My page"
    assert document.text.startswith("# Guide\n\nSome **bold** link, snake_case.\n\nKey: retries; Value: 3\n\n")
    assert "code  here" in document.text and "- one" in document.text
    assert not any(word in document.text for word in ("menu", "run()", "none", "p {}", "http"))
    assert chunks[0].heading == "My page > Guide"


def test_a_page_may_say_its_encoding_and_may_not_be_too_deep(tmp_path: Path) -> None:
    page = '<meta charset="gbk"><p>备份</p>'.encode("gbk")
    assert "备份" in load(written(tmp_path / "a.html", page), "a.html").text
    assert "too deep" in refusal(written(tmp_path / "deep.html", "<div>" * 20_000 + "x"))


def test_markdown_and_text_stand_as_they_are(tmp_path: Path) -> None:
    text = "---\ntitle: 'A guide'\n---\r\n\r\n# One\r\n\r\nWords.\r\n"
    document, chunks = read(written(tmp_path / "a.md", text))
    assert (document.text, document.title) == (text, "A guide")
    assert [(each.heading, each.text) for each in chunks] == [("A guide > One", "# One\r\n\r\nWords.")]
    assert read(written(tmp_path / "a.txt", "مرحبا\r\nבדיקה"))[0].text == "مرحبا\r\nבדיקה"


def test_what_is_no_document_of_its_name_is_refused(tmp_path: Path) -> None:
    pdf = files.write_pdf(tmp_path / "a.pdf", [("One", "text")]).read_bytes()
    assert "no pdf" in refusal(written(tmp_path / "text.pdf", "text"))
    assert "no docx" in refusal(written(tmp_path / "text.docx", "text"))
    assert "no text" in refusal(written(tmp_path / "pdf.txt", pdf))
    assert "no text" in refusal(written(tmp_path / "binary.txt", bytes(range(256)) * 20))
    for name in sorted(SUFFIXES):
        assert "empty" in refusal(written(tmp_path / f"empty{name}", b""))
    assert "no text" in refusal(written(tmp_path / "blank.md", " \n\t\n"))
    for name in ("a.png", "a", ".md"):
        with pytest.raises(UnsupportedDocument, match="cannot be read"):
            load(tmp_path / name, name)
