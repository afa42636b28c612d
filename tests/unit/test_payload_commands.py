"""What a person is told to run to get the bytes of a result."""

from __future__ import annotations

import pytest

from infra.cli.result import fetching
from schemas.tools import Part

REF = "payload:" + "0" * 64


@pytest.mark.parametrize(
    ("part", "file"),
    [
        (Part(kind="image", ref=REF, media_type="image/png"), "image.png"),
        (Part(kind="table", ref=REF, media_type="text/csv; charset=utf-8", name="table.csv"), "table.csv"),
        (Part(kind="file", ref=REF, name="../../etc/passwd; rm -rf ~"), "_.._etc_passwd_rm_-rf_"),
        (Part(kind="file", ref=REF, name="-rf"), "rf"),
        (Part(kind="audio", ref=REF), "audio"),
    ],
)
def test_the_command_names_a_file_that_is_safe_to_write(part: Part, file: str) -> None:
    assert fetching(part) == f"milepost payloads get {REF} -o {file}"
