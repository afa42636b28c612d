"""Bytes to text in the encodings that documents have."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retrieval.documents import UnreadableDocument
from services.retrieval.loaders.encoding import decode

TEXTS = {
    "gb18030": "云服务器续费规则：实例到期前一个月自动续费。",
    "big5": "雲端伺服器續費規則：到期前一個月自動續費。",
    "shift_jis": "バックアップは毎晩二時に実行されます。",
    "euc_jp": "バックアップは毎晩二時に実行されます。",
    "euc_kr": "백업은 매일 밤 두 시에 실행됩니다.",
    "cp1252": "Die Größe der Übertragung beträgt fünf Gigabyte, naïve café.",
    "cp1251": "Резервные копии создаются каждую ночь.",
    "koi8_r": "Резервные копии создаются каждую ночь.",
    "cp1250": "Zażółć gęślą jaźń, kopie zapasowe są codziennie.",
    "utf-16-le": "plain text without a mark, and 中文 in it",
    "utf-16-be": "plain text without a mark",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_read_in_the_encoding_that_it_is_in(name: str) -> None:
    assert decode(TEXTS[name].encode(name)) == TEXTS[name]


def test_little_chinese_is_still_chinese() -> None:
    for text in ("备份策略", "Instance 实例 renews 续费 monthly, see the table below."):
        assert decode(text.encode("gb18030")) == text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_utf_8_and_marked_texts_come_back_as_they_were(text: str) -> None:
    assert decode(codecs.BOM_UTF8 + text.encode()) == text
    assert decode(codecs.BOM_UTF16_LE + text.encode("utf-16-le")) == text
    assert decode(codecs.BOM_UTF32_BE + text.encode("utf-32-be")) == text
    if not text.startswith("\ufeff"):
        assert decode(text.encode()) == text


def test_what_the_sender_says_is_believed_only_where_it_fits() -> None:
    assert decode("é".encode("cp1252"), "windows-1252") == "é"
    assert decode("备份".encode(), "windows-1252") == "备份"
    assert decode(b"plain", "no-such-encoding") == "plain"


@pytest.mark.parametrize("raw", [b"\x00" * 50, b"a\x00b", bytes(range(256)) * 4, b"\xff\xfe\x00", codecs.BOM_UTF8 + b"\xff"])
def test_what_is_no_text_is_refused(raw: bytes) -> None:
    with pytest.raises(UnreadableDocument):
        decode(raw)
