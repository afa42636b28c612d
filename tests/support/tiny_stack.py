"""A `milepost up` of dummy services, to be run as a program: tiny_stack HOME '{"services": {...}, "fork": true, ...}'."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from infra import logs
from infra.processes import python
from infra.supervisor import Plan, up
from schemas.errors import MilepostError


def plan(home: Path, services: dict[str, int], **more: Any) -> Plan:
    return Plan(
        home=home,
        services=services,
        entry="tests.support.dummy_services:serve",
        command=lambda name, copy: python("tests.support.dummy_services", name, str(copy)),
        **more,
    )


if __name__ == "__main__":
    logs.configure("supervisor", format="json")
    try:
        asyncio.run(up(plan(Path(sys.argv[1]), **json.loads(sys.argv[2])), report=lambda line: print(line, flush=True)))
    except MilepostError as error:
        sys.exit(str(error))
