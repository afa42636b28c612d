"""What the gateway is made of in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import httpx

from infra.archive.whole import WholeLog, whole_log
from infra.gateway import address, serving
from infra.gateway.agents_on_bus import serve_on_bus
from infra.gateway.door_secret import door_seed, make_door_secret
from infra.gateway.evaluations import ProcessEvaluations
from infra.gateway.history import WholeHistory
from infra.gateway.library import StackLibrary
from infra.gateway.machinery import StackMachinery
from infra.gateway.mcp_mount import mcp_mounts
from infra.gateway.triggers import HttpOutside, watch
from infra.gateway.workshop import StackWorkshop
from infra.metrics import StackReadings
from infra.postgres.agents import PostgresAgentStore
from infra.postgres.channels import PostgresChannelStore
from infra.postgres.door_keys import PostgresKeyStore
from infra.postgres.triggers import PostgresTriggerStore
from infra.settings import Settings
from infra.wiring import World, open_engine, open_payloads
from runtime.errors import Unreachable
from schemas.canonical import JsonObject, read_json
from schemas.errors import ProtocolError
from services.gateway.app import create_app
from services.gateway.caller_tools import caller_tools
from services.gateway.gateway import Gateway
from services.gateway.keys import KeyRing
from services.gateway.oidc import Issuer, Tokens
from services.gateway.principal import DOOR_ROLES, DoorRole, Principal
from services.gateway.rules import Rules

_FETCH_S = 10.0
_FETCH_BYTES = 1024 * 1024
_MB = 1024 * 1024


async def gateway_work(world: World) -> list[Coroutine[None, None, None]]:
    """All that a gateway process does. Raises DoorClosed, DoorSecretError."""
    settings = world.settings
    listening = serving.listen(settings.door)
    url = serving.address(settings, listening.getsockname()[1])
    gateway = open_gateway(world, url)
    serving.check_public(settings, bool(await gateway.keys.keys(settings.tenant)))
    ready = asyncio.Event()
    world.readiness.append(ready)
    address.remember(settings.home, url)
    mcp = mcp_mounts(gateway, world)
    app = create_app(gateway, mcp)
    doors = [serve_on_bus(gateway, world), *watch(gateway), *(each.run() for each in mcp.values())]
    return [*doors, serving.serve_app(app, settings.door, listening, ready), world.worker(caller_tools(world.log))]


def open_gateway(world: World, url: str) -> Gateway:
    """The gateway over the parts of this process."""
    settings = world.settings
    make_door_secret(settings)

    @cache
    def journal(tenant: str) -> WholeLog:
        return whole_log(world.log, world.keyring, settings.archive, tenant)

    engine = open_engine(settings)
    keys = PostgresKeyStore(engine)
    return Gateway(
        journal=journal, bus=world.bus, clock=world.clock, rules=_rules(settings, url), seed=door_seed(settings), keys=keys,
        ring=KeyRing(keys, world.clock), tokens=_tokens(settings),
        local=Principal(settings.tenant, settings.user, ("admin",), "local"), agents=PostgresAgentStore(engine),
        triggers=PostgresTriggerStore(engine, open_engine(settings, "milepost_keeper")), history=WholeHistory(world, journal),
        library=StackLibrary(world), workshop=StackWorkshop(world), machinery=StackMachinery(world),
        evaluations=ProcessEvaluations(world.clock, {"MILEPOST_HOME": str(settings.home)}),
        channels=PostgresChannelStore(engine, open_engine(settings, "milepost_keeper")), outside=HttpOutside(),
        payloads=open_payloads(world), readings=StackReadings(world), spans=world.traces,
        models=("default", settings.model.name), version=_version(),
    )  # fmt: skip


def _version() -> str:
    try:
        return version("milepost")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0"


def _rules(settings: Settings, url: str) -> Rules:
    door, loopback = settings.door, serving.is_loopback(settings.door.host)
    origins = tuple(each.strip() for each in door.origins.split(",") if each.strip())
    names = {"127.0.0.1", "localhost", "[::1]", *([httpx.URL(url).host] if door.public_url else [])}
    return Rules(
        public_url=url, hosts=tuple(sorted(names)) if loopback else (), origins=origins, body_bytes=round(door.body_mb * _MB),
        file_bytes=round(door.file_mb * _MB), per_minute=door.per_minute, streams=door.streams, local=door.local_key,
        secure=url.startswith("https://"),
    )  # fmt: skip


def _tokens(settings: Settings) -> Tokens | None:
    oidc = settings.oidc
    if oidc.issuer is None:
        return None
    roles: list[tuple[str, DoorRole]] = []
    for pair in filter(None, (each.strip() for each in oidc.roles.split(","))):
        group, _, role = pair.rpartition("=")
        known = next((each for each in DOOR_ROLES if each == role), None)
        if not group or known is None:
            raise ProtocolError(f"{pair!r} in MILEPOST_OIDC_ROLES names no role.", hint=f"GROUP=ROLE, one of {DOOR_ROLES}")
        roles.append((group, known))
    issuer = Issuer(
        oidc.issuer, oidc.audience, oidc.user_claim, oidc.tenant_claim, oidc.roles_claim, settings.tenant, tuple(roles)
    )
    return Tokens(issuer, fetch_json)


async def fetch_json(address: str) -> JsonObject:
    """The JSON object that stands at an address of the issuer. Raises Unreachable."""
    try:
        async with httpx.AsyncClient(timeout=_FETCH_S, follow_redirects=False) as http:
            found = await http.get(address)
            found.raise_for_status()
            said = read_json(found.content, limit=_FETCH_BYTES)
    except (httpx.HTTPError, ProtocolError) as error:
        raise Unreachable(f"{address} does not answer.", why=str(error), hint="check MILEPOST_OIDC_ISSUER") from error
    if not isinstance(said, dict):
        raise Unreachable(f"{address} answers with something else than a JSON object.", hint="check MILEPOST_OIDC_ISSUER")
    return said
