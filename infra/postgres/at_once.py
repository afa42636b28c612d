"""One statement as a transaction of its own in one round trip, for what every call of a tool waits for.

PostgreSQL's pipeline mode (libpq, 32.5): BEGIN, the tenant's name, the statement and COMMIT go out together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, LiteralString

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres.engine import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from psycopg import AsyncConnection as Driver

_AS_TENANT = "SELECT set_config('milepost.tenant', %s, true), set_config('synchronous_commit', %s, true)"


async def at_once(
    engine: AsyncEngine, tenant: str, statement: LiteralString, values: Mapping[str, object], *, durable: bool = True
) -> list[dict[str, object]]:
    """The rows that it returns, once it is committed; durable: and on disk.

    It is tried once more on another connection if the first one turns out to be dead, so it must be idempotent.
    Raises StoreUnavailable and StoreRefused.
    """
    from psycopg import DataError, Error

    for last in (False, True):
        try:
            async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                driver = await _driver(connection)
                try:
                    return await _sent(driver, tenant, statement, values, durable)
                except DataError as error:
                    raise StoreRefused("The database cannot store this value.", why=str(error)[:300]) from error
                except Error as error:
                    dead = driver.closed
                    await connection.invalidate()
                    if last or not dead:
                        raise _unavailable(error) from error
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, OSError) as error:
            raise _unavailable(error) from error
    raise AssertionError("the second try returns or raises")


def _unavailable(error: BaseException) -> BaseException:
    if (task := asyncio.current_task()) and task.cancelling():
        return asyncio.CancelledError()  # psycopg answers a cancelled task with "canceling statement"
    return StoreUnavailable("The database does not answer.", why=str(error).strip()[:300], hint="milepost status")


async def _sent(
    driver: Driver[tuple[object, ...]], tenant: str, statement: LiteralString, values: Mapping[str, object], durable: bool
) -> list[dict[str, object]]:
    from psycopg.rows import dict_row

    async with driver.pipeline():
        await driver.execute("BEGIN")
        await driver.execute(_AS_TENANT, (tenant, "on" if durable else "off"))
        cursor = driver.cursor(row_factory=dict_row)
        await cursor.execute(statement, values)
        await driver.execute("COMMIT")
    return await cursor.fetchall() if cursor.description else []


async def _driver(connection: AsyncConnection) -> Driver[tuple[object, ...]]:
    return (await connection.get_raw_connection()).driver_connection  # type: ignore[return-value]  # psycopg's own
