"""Zip archives that documents come in: looked at before they are unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from services.retrieval.documents import UnreadableDocument

MEMBERS_LIMIT = 20_000
_MIB = 1024 * 1024


def check_archive(path: Path, limit: int) -> None:
    """Look at the archive's list. limit: bytes that its XML may unpack to; pictures are not read.

    Raises UnreadableDocument for a broken archive, an encrypted one, and one that unpacks to more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UnreadableDocument("It is broken: its archive cannot be opened.", why=str(error)) from error
    if any(member.flag_bits & 1 for member in members):
        raise UnreadableDocument("It is encrypted.", hint="save it without a password")
    size = sum(member.file_size for member in members if member.filename.lower().endswith((".xml", ".rels")))
    if size > limit or len(members) > MEMBERS_LIMIT:
        raise UnreadableDocument(
            "It unpacks to more than a document may have.",
            why=f"{size // _MIB} MiB of XML in {len(members)} files; the limit is {limit // _MIB} MiB", hint="split it",
        )  # fmt: skip
