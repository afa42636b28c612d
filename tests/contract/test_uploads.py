"""What every place for sections on their way in promises, in memory and in Postgres alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.postgres.engine import connect
from infra.postgres.uploads import PostgresUploads
from services.retrieval.ingestion import Uploads
from services.retrieval.memory_uploads import MemoryUploads

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["memory", "postgres"])
async def uploads(request: pytest.FixtureRequest) -> AsyncIterator[Uploads]:
    if request.param == "memory":
        yield MemoryUploads()
        return
    engine = connect(request.getfixturevalue("postgres_url"), role="milepost_service")
    yield PostgresUploads(engine)
    await engine.dispose()


async def test_sections_come_back_as_they_were(uploads: Uploads) -> None:
    assert await uploads.numbers("acme", "u") == set()
    assert await uploads.get("acme", "u", 0) is None
    await uploads.put("acme", "u", 1, b"one", NOW)
    await uploads.put("acme", "u", 0, b"\x00\xff", NOW)
    await uploads.put("acme", "u", 1, b"again", NOW)
    assert await uploads.numbers("acme", "u") == {0, 1}
    assert [await uploads.get("acme", "u", number) for number in (0, 1)] == [b"\x00\xff", b"again"]


async def test_an_upload_belongs_to_its_tenant(uploads: Uploads) -> None:
    await uploads.put("acme", "u", 0, b"secret", NOW)
    assert await uploads.numbers("rival", "u") == set() and await uploads.get("rival", "u", 0) is None
    await uploads.drop("rival", "u", NOW + timedelta(days=9))
    assert await uploads.get("acme", "u", 0) == b"secret"


async def test_what_is_dropped_is_gone_and_so_is_what_was_left_lying(uploads: Uploads) -> None:
    for upload, age in (("done", 0), ("old", 30), ("going on", 30), ("young", 1)):
        await uploads.put("acme", upload, 0, b"x", NOW - timedelta(hours=age))
    await uploads.put("acme", "going on", 1, b"x", NOW)
    await uploads.drop("acme", "done", NOW - timedelta(days=1))
    left = {upload: await uploads.numbers("acme", upload) for upload in ("done", "old", "going on", "young")}
    assert left == {"done": set(), "old": set(), "going on": {0, 1}, "young": {0}}
