"""The stack of one machine: which services `milepost up` starts, and with which settings."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from infra import stack as stacks
from infra.processes import python
from infra.settings import Loaded, Settings, load
from infra.stack import Stack
from infra.supervisor import Plan

ENTRY = "infra.wiring:run_service"
CLOUD_PORT = "demo-cloud.port"
CLOUD_KEYS = ("MILEPOST_CLOUD_ACCESS_KEY_", "MILEPOST_AWS_ACCESS_KEY_")
ARCHIVE_KEYS = "MILEPOST_ARCHIVE_ACCESS_KEY_"
MASTER_KEY = "MILEPOST_KEYS_MASTER"
CAPABILITY_KEY = "MILEPOST_CAPABILITY_KEY"
DOOR_SECRET = "MILEPOST_DOOR_SECRET"
PRELOAD = (
    "infra.wiring", "nats.micro", "runtime.conductor", "runtime.timer", "sqlalchemy.ext.asyncio", "psycopg",
    "infra.postgres.tables", "rich", "uvloop",
)  # fmt: skip


def plan(loaded: Loaded) -> Plan:
    """What to run for these settings."""
    settings = loaded.settings
    services = {name: count for name, count in settings.services.model_dump().items() if count}
    environment = loaded.environment()
    if settings.cloud.demo and not settings.cloud.endpoint:
        environment |= _demo_cloud(settings.home)
        services = {"cloud": 1, **services}
    master = {name: environment.pop(name) for name in [MASTER_KEY] if name in environment}
    signing = {name: environment.pop(name) for name in [CAPABILITY_KEY] if name in environment}
    door = {name: environment.pop(name) for name in [DOOR_SECRET] if name in environment}
    archive_keys = {name: environment.pop(name) for name in list(environment) if name.startswith(ARCHIVE_KEYS)}
    cloud_keys = {name: environment.pop(name) for name in list(environment) if name.startswith(CLOUD_KEYS)}
    return Plan(
        home=settings.home, services=services, entry=ENTRY, prepare=_prepare, nats_url=settings.nats.url,
        nats_monitor=settings.nats.monitor, postgres_url=settings.postgres.url, sync_always=settings.nats.sync_always,
        environment=environment,
        secrets={"tools": cloud_keys, "memory": master, "conductor": signing, "recorder": archive_keys, "gateway": door},
        preload=PRELOAD,
    )  # fmt: skip


async def _prepare(stack: Stack) -> None:
    from infra.capability_keys import make_capability_keys
    from infra.master_key import make_master_key
    from infra.wiring import capability_file, master_key_file, prepare

    settings = load().settings
    if settings.keys.master is None and settings.keys.file is None:  # one that is named is the operator's to make
        make_master_key(master_key_file(settings))
    if settings.capability.key is None and settings.capability.file is None:
        make_capability_keys(capability_file(settings))
    await prepare(with_stack(settings, stack))


def with_stack(settings: Settings, stack: Stack) -> Settings:
    """The settings with the addresses of a running stack."""
    nats = settings.nats.model_copy(update={"url": stack.nats_url, "monitor": stack.nats_monitor or None})
    postgres = settings.postgres.model_copy(update={"url": stack.postgres_url})
    return settings.model_copy(update={"nats": nats, "postgres": postgres})


def attached(settings: Settings) -> Settings:
    """The settings of a process that joins the stack of this data directory, or the external servers they name."""
    if settings.nats.url:
        return settings
    return with_stack(settings, stacks.attach(settings.home))


async def start_detached(loaded: Loaded, *, timeout: float = 120.0) -> Stack:
    """Start the stack in the background; returns when it accepts runs."""
    command, environment = python("infra", "up", "--foreground")
    return await stacks.start_detached(
        command, loaded.settings.home, environment={**os.environ, **environment, **loaded.environment()}, timeout=timeout
    )


def _demo_cloud(home: Path) -> dict[str, str]:
    """The demo cloud's address: the port of last time if it is free, so that open runs find it again."""
    from infra.demo_cloud.server import DEMO_ACCESS_KEY_ID, DEMO_ACCESS_KEY_SECRET

    remembered = home / CLOUD_PORT  # written by the cloud itself: this `up` may yet be refused
    try:
        wanted = int(remembered.read_text())
    except (OSError, ValueError):
        wanted = 0
    port = _free_port(wanted) or _free_port(0)
    return {
        "MILEPOST_CLOUD_ENDPOINT": f"127.0.0.1:{port}", "MILEPOST_CLOUD_PROTOCOL": "http",
        "MILEPOST_CLOUD_ACCESS_KEY_ID": DEMO_ACCESS_KEY_ID, "MILEPOST_CLOUD_ACCESS_KEY_SECRET": DEMO_ACCESS_KEY_SECRET,
    }  # fmt: skip


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
        return int(probe.getsockname()[1])
