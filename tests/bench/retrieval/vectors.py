"""pgvector alone at 100,000 vectors: how long its index takes to build, how much it holds, what it finds and how fast."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from pgvector import HalfVector
from psycopg import AsyncConnection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import transaction
from tests.bench.retrieval.places import Matrix

VECTORS = 100_000
K = 10
BUILD_MEMORY = "256MB"
"""The graph and its vectors; with less, the build goes on in the table's pages, which takes several times as long."""

_NEAREST = text("SELECT id FROM many_vectors ORDER BY vector <#> CAST(:vector AS halfvec) LIMIT :k")


async def hundred_thousand(engine: AsyncEngine, real: Matrix, questions: Matrix) -> dict[str, float]:
    """Figures for vectors between real ones: build_100k_s, bytes_100k (table and index), recall_100k_10, p95_100k_ms."""
    many = between(real, VECTORS)
    async with transaction(engine) as connection:
        await connection.execute(text("CREATE TABLE many_vectors (id integer, vector halfvec(384) NOT NULL)"))
        raw = await connection.get_raw_connection()
        assert isinstance(raw.driver_connection, AsyncConnection)
        await _copy(raw.driver_connection, many)
        await connection.execute(text(f"SET LOCAL maintenance_work_mem = '{BUILD_MEMORY}'"))
        began = time.perf_counter()
        await connection.execute(text("CREATE INDEX ON many_vectors USING hnsw (vector halfvec_ip_ops)"))
        built = time.perf_counter() - began
    found, times = [], []
    async with transaction(engine) as connection:
        size = await connection.scalar(text("SELECT pg_total_relation_size('many_vectors')"))
        for question in questions:
            began = time.perf_counter()
            found.append([row for (row,) in await connection.execute(_NEAREST, {"vector": str(question.tolist()), "k": K})])
            times.append(time.perf_counter() - began)
        await connection.execute(text("DROP TABLE many_vectors"))
    exact = [np.argpartition(-(many @ question), K)[:K].tolist() for question in questions]
    return {
        "build_100k_s": built,
        "bytes_100k": float(size or 0),
        "recall_100k_10": share_found(found, exact),
        "p95_100k_ms": float(np.percentile(times, 95)) * 1000,
    }


def between(real: Matrix, number: int) -> Matrix:
    """Unit vectors, each a mixture of two real ones: as near to each other as those of a larger catalogue would be."""
    draw = np.random.default_rng(4)
    first, second = draw.integers(len(real), size=(2, number))
    share = draw.uniform(0.1, 0.9, size=(number, 1)).astype(np.float32)
    mixed = share * real[first] + (1 - share) * real[second]
    unit: Matrix = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return unit


def share_found(found: Sequence[Sequence[object]], exact: Sequence[Sequence[object]]) -> float:
    """Recall: how many of the exact ones were found."""
    hits = sum(len(set(some) & set(best)) for some, best in zip(found, exact, strict=True))
    return hits / sum(len(best) for best in exact)


async def _copy(connection: AsyncConnection, many: Matrix) -> None:
    async with connection.cursor() as cursor, cursor.copy("COPY many_vectors FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "bytea"])  # binary rows hold pgvector's own bytes
        for number, row in enumerate(many):
            await copy.write_row((number, HalfVector(row).to_binary()))
