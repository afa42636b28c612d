"""Documents of every format for tests, written by the libraries that people write them with."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import docx
import openpyxl
from fpdf import FPDF
from pypdf import PdfWriter


def write_pdf(path: Path, pages: Sequence[tuple[str, str]], title: str = "") -> Path:
    """A page for each heading (an entry of the outline) and text."""
    pdf = FPDF()
    if title:
        pdf.set_title(title)
    for heading, text in pages:
        pdf.add_page()
        pdf.set_font("Helvetica", size=12)
        pdf.start_section(heading)
        for line in (heading, text):
            pdf.multi_cell(0, 8, line, new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(path))
    return path


def write_scan(path: Path) -> Path:
    """A PDF with a picture and no text."""
    pdf = FPDF()
    pdf.add_page()
    pdf.rect(10, 10, 50, 50)
    pdf.output(str(path))
    return path


def lock_pdf(path: Path, password: str) -> Path:
    """The same PDF, encrypted."""
    writer = PdfWriter(clone_from=path)
    writer.encrypt(password, owner_password="owner", algorithm="AES-256")
    locked = path.with_name(f"locked-{path.name}")
    writer.write(str(locked))
    return locked


def chinese_pdf(text: str) -> bytes:
    """A PDF whose text is in UniGB-UCS2-H, as Chinese office programs write it, without the font itself."""
    shown = b"BT /F1 18 Tf 72 700 Td <" + text.encode("utf-16-be").hex().encode() + b"> Tj ET"
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(shown), shown),
        b"<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H /DescendantFonts [6 0 R] >>",
        b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light"
        b" /CIDSystemInfo << /Registry (Adobe) /Ordering (GB1) /Supplement 2 >> >>",
    )
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, io.SEEK_END)
    places = []
    for number, said in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, said))
    table = out.tell()
    rows = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    out.write(b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, rows))
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, table))
    return out.getvalue()


def write_docx(path: Path) -> Path:
    """A policy: two headings, a paragraph, a table, a list."""
    document = docx.Document()
    document.add_heading("Leave policy", 1)
    document.add_paragraph("Everybody has 30 days. 每人三十天。")
    document.add_heading("Days by grade", 2)
    table = document.add_table(rows=3, cols=2)
    for row, cells in zip(table.rows, (("Grade", "Days"), ("Junior", "25"), ("Senior", "30")), strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.add_paragraph("Ask early", style="List Bullet")
    document.save(str(path))
    return path


def write_xlsx(path: Path, sheets: dict[str, list[list[object]]]) -> Path:
    """A workbook of rows by sheet."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(str(path))
    return path


def with_member(path: Path, member: str, data: bytes, to: Path) -> Path:
    """The archive with one of its files replaced."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, data if name == member else old.read(name))
    return to
