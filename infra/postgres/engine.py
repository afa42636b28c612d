"""One engine a process, one transaction a call, one error when Postgres is away; and the migrations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from sqlalchemy import ARRAY, ColumnElement, Text, cast, exc, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from runtime.errors import Permanent, Unreachable

if TYPE_CHECKING:
    from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent.parent / "migrations"

_MIGRATION_LOCK = 0x4D494C45  # "MILE": one advisory lock of the database
# Every search is planned for what it asks: a plan for any lanes or collections may read all that is there.
_OPTIONS = (
    "-c hnsw.iterative_scan=strict_order -c hnsw.ef_search=100 -c jit=off -c lock_timeout=20s"
    " -c plan_cache_mode=force_custom_plan -c random_page_cost=1.1 -c max_parallel_workers_per_gather=0"
)
_CONNECT_S = 5
_AS_TENANT = text("SELECT set_config('milepost.tenant', :tenant, true)")


class StoreUnavailable(Unreachable):
    """Postgres does not answer, or gave up on this transaction: nothing is lost, the same call may be made again."""


class StoreRefused(Permanent):
    """Postgres cannot hold the value, however often it is tried."""


class MigrationFailed(Permanent):
    """The schema could not be brought up to date."""


Role: TypeAlias = Literal["milepost_service", "milepost_keeper"]
"""Who sees the rows of the tenant that a transaction names, and who sees those of all; neither owns a table."""


def connect(
    url: str, *, role: Role | None = None, pool: int = 4, overflow: int = 3, patience: float = 10.0, ping: bool = True
) -> AsyncEngine:
    """The engine of a process: at most pool + overflow connections, so that eight processes share sixty.

    url: as given by people, `postgresql://...`. role: what every connection changes into at its start; None: who the URL
    says. patience: seconds to wait for a free connection. ping: whether each connection taken is tried first, a round trip.
    """
    options = f"{_OPTIONS} -c role={role}" if role else _OPTIONS
    return create_async_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool,
        max_overflow=overflow,
        pool_timeout=patience,
        pool_pre_ping=ping,
        pool_recycle=1800,
        connect_args={"options": options, "connect_timeout": _CONNECT_S, "application_name": "milepost"},
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine, tenant: str | None = None) -> AsyncIterator[AsyncConnection]:
    """A transaction that commits at the end. Raises StoreUnavailable and StoreRefused in place of the driver's errors.

    tenant: whose rows it sees and writes, beside the shared ones; row level security hides all others. None sees what
    belongs to nobody.
    A commit whose answer is lost raises StoreUnavailable too: what runs in here must be idempotent.
    """
    try:
        async with engine.begin() as connection:
            if tenant is not None:
                await connection.execute(_AS_TENANT, {"tenant": tenant})
            yield connection
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, OSError) as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise asyncio.CancelledError from error  # psycopg answers a cancelled task with "canceling statement"
        raise StoreUnavailable("The database does not answer.", why=_reason(error), hint="milepost status") from error
    except exc.DataError as error:
        raise StoreRefused("The database cannot store this value.", why=_reason(error)) from error
    except exc.DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable("The database went away.", why=_reason(error), hint="milepost status") from error
        raise


async def migrate(url: str) -> None:
    """Bring the schema up to date in one transaction; several processes may call it at once, one does the work.

    Raises StoreUnavailable and MigrationFailed.
    """
    engine = connect(url, pool=1, overflow=0)
    try:
        async with transaction(engine) as connection:
            await connection.execute(text("SET LOCAL lock_timeout = 0"))
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            await connection.run_sync(_upgrade)
    except (exc.ProgrammingError, exc.NotSupportedError) as error:
        raise MigrationFailed(
            "The database schema could not be brought up to date.",
            why=_reason(error),
            hint="use a role that may create tables, roles and the extensions vector and pg_trgm",
        ) from error
    finally:
        await engine.dispose()


def array_of(texts: Sequence[str]) -> ColumnElement[Sequence[str]]:
    """The texts as one array parameter: a list of parameters would end at 65,535."""
    return cast(list(texts), ARRAY(Text))


def literal(vector: Sequence[float] | None) -> str | None:
    """A vector as pgvector reads it, with the seven digits that its four bytes hold."""
    return None if vector is None else "[" + ",".join(f"{part:.7g}" for part in vector) + "]"


def pattern(part: str) -> str:
    """A LIKE pattern for texts that contain the part."""
    escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _reason(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0][:300]
