"""Headers of NATS are read as nats-py reads them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client

from infra.jetstream.connection import FastClient

PIECES = st.lists(
    st.sampled_from([b"Nats-Sequence", b"Status", b":", b" ", b"\t", b"\r\n", b"\n", b"\x1c", b"\x85", b"42", b"\xc3\xa9"])
)


@given(PIECES.map(b"".join))
@example(b"Nats-Subject: mp.ev.202611\r\nNats-Sequence:7\r\n\r\n")
@example(b"two words: x\r\n: nameless\r\n\x1cname: x\r\n\xff: x\r\nvalue: \xff\r\n")
def test_headers_are_read_as_nats_py_reads_them(raw: bytes) -> None:
    assert FastClient._parse_header_lines(raw) == Client._parse_header_lines(raw)
