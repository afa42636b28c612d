"""Requests that schemathesis makes from /openapi.json: whatever they say, the door answers, and never with a fault of its own.

These are few and always the same; `make fuzz-door` asks more, of a stack that is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.gateway.principal import DoorRole
from tests.support.door_fuzz import STREAMS, Fuzz
from tests.support.door_routes import OPEN, routes
from tests.support.gateways import door_of, key_of
from tests.support.stack import LocalStack

EXAMPLES = 3
KEYS = 3


async def _fuzzed(stack: LocalStack, examples: int, roles: Sequence[DoorRole]) -> Fuzz:
    """In a tenant of its own, so that nothing of others' is touched."""
    keys = [await key_of(stack, *roles, user=f"fuzz-{n}", tenant="fuzz") for n in range(KEYS if roles else 0)]
    found = await asyncio.to_thread(Fuzz(door_of(stack), keys, examples).run)
    assert not found.wrong, "\n".join(found.wrong)
    assert {path for _, path in routes()} - {label.split(" ", 1)[1] for label in found.asked} == STREAMS
    return found


async def test_nothing_that_is_sent_is_a_fault_of_the_door(two_doors: LocalStack) -> None:
    found = await _fuzzed(two_doors, EXAMPLES, ("admin",))
    statuses = [status for told in found.asked.values() for status in told]
    assert statuses.count(200) > 50 and statuses.count(422) > 50 and 429 not in statuses


async def test_without_a_key_nothing_is_let_in(two_doors: LocalStack) -> None:
    found = await _fuzzed(two_doors, 1, ())
    open_to_all = {f"{method} {path}" for method, path in OPEN}
    assert all(400 <= status < 500 for label, told in found.asked.items() if label not in open_to_all for status in told)
