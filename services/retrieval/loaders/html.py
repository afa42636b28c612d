"""HTML to Markdown: headings, paragraphs, lists, code; tables become a line a row."""

from __future__ import annotations

import re
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from bs4.element import Comment
from markdownify import ATX, MarkdownConverter

from services.retrieval.documents import Extracted, UnreadableDocument, markdown
from services.retrieval.loaders.encoding import decode
from services.retrieval.loaders.rows import Table

_UNREAD = ["script", "style", "noscript", "template", "svg", "head", "nav", "iframe", "object", "form", "button", "math"]
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset=[\"']?\s*([\w-]{2,40})", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n{3,}")


def load(path: Path, name: str) -> Extracted:
    """The words of a page as Markdown. Raises UnreadableDocument for one whose elements stand too deep in each other."""
    raw = path.read_bytes()
    stated = _CHARSET.search(raw[:4096])
    return read_html(decode(raw, stated[1].decode("ascii") if stated else None))


def read_html(page: str) -> Extracted:
    """A page as Markdown under its title."""
    soup = BeautifulSoup(page, "lxml")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    for tag in soup.find_all(_UNREAD):
        tag.decompose()
    for comment in soup.find_all(string=lambda each: isinstance(each, Comment)):
        comment.extract()
    try:
        text = _Words(
            heading_style=ATX, bullets="-", strip=["a", "img", "input"], escape_asterisks=False, escape_underscores=False
        ).convert_soup(soup)
    except RecursionError as error:
        raise UnreadableDocument("Its elements stand too deep in each other.") from error
    return markdown(_BLANK_LINES.sub("\n\n", text).strip() + "\n", title)


class _Words(MarkdownConverter):
    """Markdown as people read it; a table's rows each name their columns, so that no piece of it is without its header."""

    def convert_table(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        if element.find("table"):
            return f"\n\n{text.strip()}\n\n"  # a table of tables is layout
        rows = [[_cell(cell) for cell in row.find_all(["td", "th"])] for row in element.find_all("tr")]
        return f"\n\n{Table.headed(rows).text()}\n\n" if any(rows) else ""

    def convert_tr(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        return f"{text.strip()}\n\n"

    def convert_td(self, element: Tag, text: str, parent_tags: set[str]) -> str:
        return f"{text.strip()}\n\n"

    convert_th = convert_td


def _cell(cell: Tag) -> str:
    return " ".join(cell.get_text(" ").split())
